"""The inverse of a square matrix that is not symmetric, by its LU factors."""

from __future__ import annotations

import torch
from torch import Tensor

from quadric.core.errors import ConvergenceError
from quadric.operators.inverse_of import InverseOf
from quadric.operators.operator import LinearOperator


class LUInverse(InverseOf):
    """A⁻¹ by P A = L U; `adjoint` says that the factors are those of Aᵀ. Cost of a product: 2 n² operations."""

    def __init__(self, operator: LinearOperator, factors: Tensor, pivots: Tensor, adjoint: bool = False) -> None:
        super().__init__(operator)
        self.factors = factors
        self.pivots = pivots
        self.adjoint = adjoint

    @classmethod
    def of(cls, operator: LinearOperator, matrix: Tensor) -> LUInverse:
        """Factorise the matrix of `operator`; raises ConvergenceError where it is singular."""
        if not bool(torch.isfinite(matrix).all()):
            raise ValueError("Expected a matrix of finite numbers, got one with NaN or infinity.")
        values = torch.linalg.svdvals(matrix)
        if not float(values[-1]) > 4 * torch.finfo(matrix.dtype).eps * float(values[0]):
            raise ConvergenceError(
                f"The operator is singular (its singular values go from {float(values[0]):.3g} down to "
                f"{float(values[-1]):.3g}): it has no inverse. Add damping."
            )
        factors, pivots = torch.linalg.lu_factor(matrix)
        return cls(operator, factors, pivots)

    def _apply(self, x: Tensor) -> Tensor:
        return torch.as_tensor(torch.linalg.lu_solve(self.factors, self.pivots, x, adjoint=self.adjoint))

    def _transpose(self) -> LinearOperator:
        return LUInverse(self.operator.T, self.factors, self.pivots, not self.adjoint)
