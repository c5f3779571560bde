"""One Kronecker product in place of a sum of several."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

Pair = tuple[Tensor, Tensor]
"""A and B of A ⊗ B, positive semidefinite; either may be a diagonal, as a vector."""


def marginals(pairs: Sequence[Pair]) -> Pair:
    """L and R with L ⊗ R ≈ C = Σ_i A_i ⊗ B_i: L = Σ A_i tr B_i and R = Σ B_i tr A_i / tr C, C's two partial traces.

    L ⊗ R is positive semidefinite and has the trace of C, and a single pair stays what it is. With D(C ‖ M) =
    tr C(log C − log M) and trace 1, D(C ‖ L′ ⊗ R′) = D(C ‖ L ⊗ R) + D(L ‖ L′) + D(R ‖ R′): of the Kronecker products
    with C's trace this is the nearest in relative entropy, as a joint distribution's marginals are its nearest
    independent ones. The nearest in the Frobenius norm (Van Loan and Pitsianis, 1993, Approximation with Kronecker
    products) weights a term by its norm, and so by its large eigenvalues, where this weights it by its trace.

    Cost: two traces and two weighted sums; nothing larger than the factors is formed.
    """
    lefts, rights = zip(*pairs, strict=True)
    x, y = _traces(rights), _traces(lefts)
    whole = sum(a * b for a, b in zip(x, y, strict=True))
    return _sum(x, lefts), _sum([weight / (whole or 1.0) for weight in y], rights)


def _traces(matrices: Sequence[Tensor]) -> list[float]:
    traces: list[float] = torch.stack([(m if m.dim() == 1 else m.diagonal()).sum().double() for m in matrices]).tolist()
    return traces


def _sum(weights: Sequence[float], matrices: Sequence[Tensor]) -> Tensor:
    """Σ w_i M_i, a matrix where one of them is."""
    out = torch.zeros_like(max(matrices, key=Tensor.dim))
    for weight, m in zip(weights, matrices, strict=True):
        (out if m.dim() == out.dim() else out.diagonal()).add_(m, alpha=weight)
    return out
