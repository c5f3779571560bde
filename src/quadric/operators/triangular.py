"""The inverse of a triangular matrix, by substitution."""

from __future__ import annotations

import torch
from torch import Tensor

from quadric.core.space import Space
from quadric.operators.operator import LinearOperator


class TriangularInverse(LinearOperator):
    """T⁻¹ of a triangular matrix T [n, n]. Cost of a product: n² operations."""

    def __init__(self, matrix: Tensor, space: Space, upper: bool) -> None:
        super().__init__(space)
        self.matrix = matrix
        self.upper = upper

    def _apply(self, x: Tensor) -> Tensor:
        return torch.as_tensor(torch.linalg.solve_triangular(self.matrix, x, upper=self.upper))

    def _transpose(self) -> LinearOperator:
        return TriangularInverse(self.matrix.T, self.domain, not self.upper)
