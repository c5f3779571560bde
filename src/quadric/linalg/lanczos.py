"""The Lanczos process with full reorthogonalisation."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from quadric.operators.operator import LinearOperator


@dataclass(frozen=True)
class Tridiagonal:
    """A Q = Q T + β q eᵀ: Q `basis` [n, m] orthonormal, T with `diagonal` [m] and `off_diagonal` [m − 1], in float64.

    `remainder` is β, zero to rounding where the basis spans an invariant space.
    """

    diagonal: Tensor
    off_diagonal: Tensor
    basis: Tensor
    remainder: float

    def matrix(self) -> Tensor:
        """T [m, m]."""
        off = self.off_diagonal
        return torch.diag(self.diagonal) + torch.diag(off, 1) + torch.diag(off, -1)

    def eigh(self) -> tuple[Tensor, Tensor]:
        """Ritz values [m], ascending, and the eigenvectors [m, m] of T. Ritz vectors are Q times these."""
        values, vectors = torch.linalg.eigh(self.matrix())
        return values, vectors

    def residuals(self, vectors: Tensor) -> Tensor:
        """‖A y − θ y‖ = β |last entry| for Ritz pairs whose T-eigenvectors are the columns of `vectors`."""
        return self.remainder * vectors[-1].abs()


def lanczos(operator: LinearOperator, start: Tensor, steps: int) -> Tridiagonal:
    """At most `steps` steps of Lanczos on a symmetric operator from the vector `start` [n]; fewer on a small space.

    Cost: one product and 8 n m operations for step m, n·steps numbers. Raises ValueError where A is not known to be
    symmetric, or `start` is zero. Reference: Golub and Van Loan (2013), section 10.1; Parlett (1998), chapter 13.
    """
    if not operator.symmetric:
        raise ValueError(f"Lanczos needs a symmetric operator; this {type(operator).__name__} is not known to be one.")
    operator.domain.check(start, dims=(1,))
    norm = start.norm()
    if not (bool(torch.isfinite(norm)) and norm > 0):
        raise ValueError(f"Expected a finite start other than zero, got one of norm {float(norm)}.")
    steps = min(steps, operator.shape[0])
    basis = start.new_empty(steps, operator.shape[0])  # row by row, so that each vector is contiguous
    q, diagonal, off = start / norm, [], []
    scale = beta = 0.0
    for k in range(steps):
        basis[k] = q
        w = operator @ q
        diagonal.append(float(q.double() @ w.double()))
        for _ in range(2):  # twice is enough (Giraud et al. 2005)
            w = w - basis[: k + 1].T @ (basis[: k + 1] @ w)
        beta = float(w.norm())
        scale = max(scale, abs(diagonal[-1]) + beta)
        if k + 1 == steps or beta <= 10 * torch.finfo(w.dtype).eps * scale:
            break
        off.append(beta)
        q = w / beta
    made = len(diagonal)
    t = torch.tensor([diagonal, [*off, 0.0]], dtype=torch.float64, device=start.device)
    return Tridiagonal(t[0], t[1, : made - 1], basis[:made].T, beta)
