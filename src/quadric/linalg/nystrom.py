"""The Nyström approximation of positive semi-definite operators, and the preconditioner it makes."""

from __future__ import annotations

import torch
from torch import Tensor

from quadric.linalg.probes import gaussian, seeded
from quadric.linalg.repeatable import check_repeatable
from quadric.linalg.shifted import check_damping
from quadric.operators.identity import Identity
from quadric.operators.low_rank import LowRank
from quadric.operators.operator import LinearOperator


def nystrom(operator: LinearOperator, size: int, *, seed: int = 0) -> tuple[Tensor, Tensor]:
    """U [n, size] and Λ [size], descending, with U Λ Uᵀ = (AΩ)(ΩᵀAΩ)⁺(AΩ)ᵀ ≼ A for an orthonormalised Gaussian Ω.

    Cost: `size` products, 4 n size² operations. Raises ValueError where A is not known to be positive semi-definite, or
    the size is out of range. Reference: Tropp, Yurtsever, Udell and Cevher (2017), Fixed-rank approximation of a
    positive-semidefinite matrix from streaming data, algorithm 3.
    """
    if not operator.positive_semidefinite:
        raise ValueError(
            f"Nyström needs a positive semi-definite operator, and this {type(operator).__name__} is not known to be "
            "one. If you know that it is, say so with claim_symmetric(operator, positive_semidefinite=True)."
        )
    n = operator.shape[0]
    if not 1 <= size <= n:
        raise ValueError(f"Expected a size from 1 to {n}, got {size}.")
    check_repeatable(operator)
    probes, _ = torch.linalg.qr(gaussian(operator.space, size, seeded(seed)))
    images = operator @ probes
    nu = torch.finfo(images.dtype).eps * float(images.norm())  # a shift that keeps Cholesky alive, taken off again
    if nu == 0.0:
        return probes, torch.zeros(size, dtype=images.dtype, device=images.device)
    images = images + nu * probes
    core = probes.T @ images
    values, vectors = torch.linalg.eigh((core + core.T) / 2)
    keep = values > nu / 2
    left, singular, _ = torch.linalg.svd(images @ (vectors[:, keep] / values[keep].sqrt()), full_matrices=False)
    return left, (singular.square() - nu).clamp_min(0.0)


def nystrom_preconditioner(operator: LinearOperator, damping: float, rank: int, *, seed: int = 0) -> LinearOperator:
    """P ≈ (A + λI)⁻¹ up to a factor: (λ_r + λ) U (Λ + λ)⁻¹ Uᵀ + (I − U Uᵀ) with U Λ Uᵀ Nyström's approximation of A.

    For conjugate gradients on A + λI: with the rank about the effective dimension tr A(A + λI)⁻¹ the condition number
    is a small constant. Cost: `rank` products once, then 4 n rank operations a product. Raises ValueError as `nystrom`
    does, or for λ ≤ 0. Reference: Frangella, Tropp and Udell (2023), Randomized Nyström preconditioning, equation 5.3.
    """
    check_damping(damping)
    if damping == 0:
        raise ValueError("Expected a damping > 0: without it the preconditioner is singular outside the sketch.")
    vectors, values = nystrom(operator, rank, seed=seed)
    result = Identity(operator.space) + LowRank(
        vectors, (values[-1] + damping) / (values + damping) - 1, operator.space
    )
    result.positive_semidefinite = True
    return result
