"""A matrix as an operator."""

from __future__ import annotations

from torch import Tensor

from quadric.core.space import Space
from quadric.operators.operator import LinearOperator


class Dense(LinearOperator):
    """A given matrix [m, n]; `symmetric` is read off its entries."""

    def __init__(self, matrix: Tensor, domain: Space | None = None, codomain: Space | None = None) -> None:
        if not isinstance(matrix, Tensor) or matrix.dim() != 2 or not matrix.is_floating_point():
            got = f"{list(matrix.shape)} of {matrix.dtype}" if isinstance(matrix, Tensor) else type(matrix).__name__
            raise ValueError(f"Expected a floating-point matrix [m, n], got {got}.")
        rows, columns = matrix.shape
        domain = domain or Space.euclidean(columns, matrix.dtype, matrix.device)
        codomain = codomain or (domain if rows == columns else Space.euclidean(rows, matrix.dtype, matrix.device))
        super().__init__(domain, codomain)
        self.matrix = matrix
        self.symmetric = rows == columns and bool((matrix == matrix.T).all())

    def _apply(self, x: Tensor) -> Tensor:
        return self.matrix @ x

    def _transpose(self) -> LinearOperator:
        return Dense(self.matrix.T, self.codomain, self.domain)
