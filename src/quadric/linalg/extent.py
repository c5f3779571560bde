"""How far a spectrum can reach beyond what a Lanczos chain from a random start has seen of it."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def upper_bound(diagonal: Tensor, beta: Tensor, n: int, risk: float) -> float:
    """μ with λ_max(C) ≤ μ with probability at least 1 − risk, for a symmetric C of dimension n.

    `diagonal` [j] and `beta` [j] are those of j steps of Lanczos on C from a start q that is uniform on the unit
    sphere; β_j is the norm of what is left. With p(x) = Π (x − θ_i) over the Ritz values, ‖p(C) q‖ = β₁ … β_j, so a
    unit eigenvector u of λ > θ_max obeys |uᵀq| p(λ) ≤ β₁ … β_j; and |uᵀq| ≥ risk·√(π/2n) with that probability. It
    holds for all j at once, so one may stop when it will do.

    Reference: van Dorsselaer, Hochstenbach and van der Vorst (2000), Computing probabilistic bounds for extreme
    eigenvalues of symmetric matrices with the Lanczos method, section 3.
    """
    off = beta[:-1]
    theta = torch.linalg.eigvalsh(torch.diag(diagonal) + torch.diag(off, 1) + torch.diag(off, -1))
    top = float(theta[-1])
    if float(beta[-1]) == 0.0 or n == 1:
        return top
    target = float(beta.log().sum()) - math.log(risk * math.sqrt(math.pi / (2 * n)))

    def short(x: float) -> bool:
        return float((x - theta).clamp_min(1e-300).log().sum()) < target

    width = max(float(theta[-1] - theta[0]), float(beta.max()))
    while short(top + width):
        width *= 2
    low, high = top, top + width
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if short(middle) else (low, middle)
    return high


def chain_bounds(steps: list[tuple[float, float]], n: int, risk: float) -> tuple[float, float]:
    """(lower, upper) bounds of the spectrum that a chain of (α, β) explores; each with its own risk."""
    alpha, beta = torch.tensor(steps, dtype=torch.float64).unbind(1)
    return -upper_bound(-alpha, beta, n, risk), upper_bound(alpha, beta, n, risk)
