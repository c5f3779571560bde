"""Symmetric operators of low rank."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cached_property

import torch
from torch import Tensor

from quadric.core.space import Space
from quadric.operators import queries
from quadric.operators.definiteness import NotPositiveDefinite, require_positive
from quadric.operators.diagonal import Diagonal
from quadric.operators.estimate import Estimate
from quadric.operators.identity import Identity
from quadric.operators.operator import LinearOperator
from quadric.operators.selection import Selection


class LowRank(LinearOperator):
    """U Λ Uᵀ with `vectors` U [n, r] and `values` Λ [r]; the columns of U need not be orthonormal.

    `error` is the estimated Frobenius norm of what the approximation leaves out, None where it approximates nothing.
    Cost of a product: 4 n r operations.
    """

    symmetric = True

    def __init__(
        self, vectors: Tensor, values: Tensor, space: Space | None = None, error: Estimate | None = None
    ) -> None:
        if vectors.dim() != 2 or values.dim() != 1 or vectors.shape[1] != values.shape[0]:
            raise ValueError(
                f"Expected vectors [n, r] and values [r], got {list(vectors.shape)} and {list(values.shape)}."
            )
        space = space or Space.euclidean(vectors.shape[0], vectors.dtype, vectors.device)
        space.check(vectors, dims=(2,))
        super().__init__(space)
        self.vectors = vectors
        self.values = values
        self.error = error
        self.positive_semidefinite = bool((values >= 0).all())

    @property
    def rank(self) -> int:
        """r, the number of columns of U."""
        return self.values.shape[0]

    @cached_property
    def eigen(self) -> tuple[Tensor, Tensor]:
        """Eigenvalues [r] and orthonormal eigenvectors [n, r] of the non-zero part; r is at most n."""
        basis, triangle = torch.linalg.qr(self.vectors)
        values, rotation = torch.linalg.eigh(triangle @ (self.values.unsqueeze(1) * triangle.T))
        return values, basis @ rotation

    def _apply(self, x: Tensor) -> Tensor:
        return self.vectors @ (self.values.unsqueeze(1) * (self.vectors.T @ x))

    def _transpose(self) -> LinearOperator:
        return self


def _shifted(operator: LowRank, shift: float) -> tuple[Tensor, Tensor]:
    """Eigenvalues of A + σI on the range of A, and their eigenvectors; all eigenvalues are checked to be positive."""
    values, vectors = operator.eigen
    n, rank = vectors.shape
    largest = float(values.abs().max()) + abs(shift) if rank else abs(shift)
    if rank < n and not shift > 0:
        smallest = min(shift, float(values.min()) + shift if rank else shift)
        raise NotPositiveDefinite(smallest, largest, operator.dtype)
    require_positive(values + shift, operator.dtype, rounding=True)
    return values, vectors


@queries.diagonal.register(LowRank)
def _diagonal(operator: LowRank, recurse: Callable[[LinearOperator], Diagonal]) -> Diagonal:
    return Diagonal(operator.vectors.square() @ operator.values, operator.space)


@queries.trace.register(LowRank)
def _trace(operator: LowRank, recurse: Callable[[LinearOperator], Estimate]) -> Estimate:
    return Estimate(float((operator.vectors.double().square().sum(0) * operator.values.double()).sum()))


@queries.inverse.register(LowRank)
def _inverse(
    operator: LowRank, shift: float, recurse: Callable[[LinearOperator, float], LinearOperator]
) -> LinearOperator:
    """Woodbury: (UΛUᵀ + σI)⁻¹ = I/σ − U Λ/(σ(Λ + σ)) Uᵀ for orthonormal U."""
    values, vectors = _shifted(operator, shift)
    if values.shape[0] == vectors.shape[0]:
        return LowRank(vectors, 1 / (values + shift), operator.space)
    correction = LowRank(vectors, -values / (shift * (values + shift)), operator.space)
    result = Identity(operator.space) / shift + correction
    result.positive_semidefinite = True
    return result


@queries.logdet.register(LowRank)
def _logdet(operator: LowRank, shift: float, recurse: Callable[[LinearOperator, float], Estimate]) -> Estimate:
    values, vectors = _shifted(operator, shift)
    rest = vectors.shape[0] - values.shape[0]
    ground = rest * math.log(shift) if rest else 0.0
    return Estimate(float((values.double() + shift).log().sum()) + ground)


@queries.square_root.register(LowRank)
def _square_root(
    operator: LowRank, shift: float, recurse: Callable[[LinearOperator, float], LinearOperator]
) -> LinearOperator:
    """(UΛUᵀ + σI)^½ = √σ I + U(√(Λ + σ) − √σ)Uᵀ."""
    values, vectors = _shifted(operator, shift)
    if values.shape[0] == vectors.shape[0]:
        return LowRank(vectors, (values + shift).sqrt(), operator.space)
    ground = math.sqrt(shift)
    return LowRank(vectors, (values + shift).sqrt() - ground, operator.space) + ground * Identity(operator.space)


@queries.restrict.register(LowRank)
def _restrict(operator: LowRank, selection: Selection) -> LinearOperator:
    return LowRank(operator.vectors[selection.index], operator.values, selection.space)
