"""A matrix as an operator."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from quadric.core.space import Space
from quadric.operators import queries
from quadric.operators.cholesky_inverse import CholeskyInverse, factorise
from quadric.operators.diagonal import Diagonal
from quadric.operators.estimate import Estimate
from quadric.operators.lu_inverse import LUInverse
from quadric.operators.operator import LinearOperator
from quadric.operators.selection import Selection


class Dense(LinearOperator):
    """A given matrix [m, n]; `symmetric` is read off its entries unless told, as where it holds but for rounding."""

    def __init__(
        self,
        matrix: Tensor,
        domain: Space | None = None,
        codomain: Space | None = None,
        *,
        symmetric: bool | None = None,
    ) -> None:
        if not isinstance(matrix, Tensor) or matrix.dim() != 2 or not matrix.is_floating_point():
            got = f"{list(matrix.shape)} of {matrix.dtype}" if isinstance(matrix, Tensor) else type(matrix).__name__
            raise ValueError(f"Expected a floating-point matrix [m, n], got {got}.")
        rows, columns = matrix.shape
        domain = domain or Space.euclidean(columns, matrix.dtype, matrix.device)
        codomain = codomain or (domain if rows == columns else Space.euclidean(rows, matrix.dtype, matrix.device))
        if (rows, columns) != (codomain.numel, domain.numel):
            raise ValueError(
                f"Expected a matrix of shape {[codomain.numel, domain.numel]} for these spaces, got {[rows, columns]}."
            )
        super().__init__(domain, codomain)
        self.matrix = matrix
        self.symmetric = rows == columns and bool((matrix == matrix.T).all()) if symmetric is None else symmetric

    def _apply(self, x: Tensor) -> Tensor:
        return self.matrix @ x

    def _transpose(self) -> LinearOperator:
        return Dense(self.matrix.T, self.codomain, self.domain)

    def _dense(self) -> Tensor:
        return self.matrix.clone()


def symmetrised(operator: LinearOperator, matrix: Tensor) -> Tensor | None:
    """½(M + Mᵀ) where M is the matrix of a symmetric operator, by its claim or to rounding; None where it is not."""
    if operator.symmetric or (matrix - matrix.T).norm() <= 8 * torch.finfo(matrix.dtype).eps * matrix.norm():
        return (matrix + matrix.T) / 2
    return None


def dense_inverse(operator: LinearOperator, matrix: Tensor, shift: float) -> LinearOperator:
    """(A + σI)⁻¹ by a factorisation of the matrix of A: Cholesky where it is symmetric, else LU. Cost: O(n³)."""
    shifted = matrix.clone()
    shifted.diagonal().add_(shift)
    even = symmetrised(operator, shifted)
    if even is None:
        return LUInverse.of(Dense(shifted, operator.domain, operator.codomain), shifted)
    return CholeskyInverse(Dense(even, operator.space, symmetric=True), factorise(even))


def cholesky_of(operator: LinearOperator, matrix: Tensor, shift: float, what: str) -> Tensor:
    """L with L Lᵀ = A + σI of the matrix of a symmetric A; raises ValueError where A is not symmetric."""
    even = symmetrised(operator, matrix)
    if even is None:
        raise ValueError(f"{what} takes a symmetric operator; this {type(operator).__name__} is not.")
    shifted = even.clone()
    shifted.diagonal().add_(shift)
    return factorise(shifted)


@queries.diagonal.register(Dense)
def _diagonal(operator: Dense, recurse: Callable[[LinearOperator], Diagonal]) -> Diagonal:
    return Diagonal(operator.matrix.diagonal().clone(), operator.space)


@queries.trace.register(Dense)
def _trace(operator: Dense, recurse: Callable[[LinearOperator], Estimate]) -> Estimate:
    return Estimate(float(operator.matrix.diagonal().double().sum()))


@queries.inverse.register(Dense)
def _inverse(
    operator: Dense, shift: float, recurse: Callable[[LinearOperator, float], LinearOperator]
) -> LinearOperator:
    return dense_inverse(operator, operator.matrix, shift)


@queries.logdet.register(Dense)
def _logdet(operator: Dense, shift: float, recurse: Callable[[LinearOperator, float], Estimate]) -> Estimate:
    factor = cholesky_of(operator, operator.matrix, shift, "logdet")
    return Estimate(2 * float(factor.diagonal().double().log().sum()))


@queries.square_root.register(Dense)
def _square_root(
    operator: Dense, shift: float, recurse: Callable[[LinearOperator, float], LinearOperator]
) -> LinearOperator:
    return Dense(cholesky_of(operator, operator.matrix, shift, "square_root"), operator.space)


@queries.restrict.register(Dense)
def _restrict(operator: Dense, selection: Selection) -> LinearOperator:
    return Dense(operator.matrix[selection.index][:, selection.index], selection.space)
