"""The inverse of a symmetric positive definite matrix by its Cholesky factor."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from quadric.operators import queries
from quadric.operators.definiteness import NotPositiveDefinite
from quadric.operators.diagonal import Diagonal
from quadric.operators.estimate import Estimate
from quadric.operators.inverse_of import InverseOf
from quadric.operators.operator import LinearOperator
from quadric.operators.triangular import TriangularInverse


class CholeskyInverse(InverseOf):
    """A⁻¹ by A = L Lᵀ. Cost of a product: 2 n² operations."""

    symmetric = True
    positive_semidefinite = True

    def __init__(self, operator: LinearOperator, factor: Tensor) -> None:
        super().__init__(operator)
        self.factor = factor

    def _apply(self, x: Tensor) -> Tensor:
        return torch.cholesky_solve(x, self.factor)

    def _transpose(self) -> LinearOperator:
        return self

    def _dense(self) -> Tensor:
        return torch.cholesky_inverse(self.factor)


def factorise(matrix: Tensor) -> Tensor:
    """L with L Lᵀ = A; raises NotPositiveDefinite where a symmetric A is not, or is singular to rounding."""
    if not math.isfinite(matrix.sum()) and not bool(torch.isfinite(matrix).all()):  # a sum is cheaper to test
        raise ValueError("Expected a matrix of finite numbers, got one with NaN or infinity.")
    if matrix.numel() == 0:
        return matrix
    factor, info = torch.linalg.cholesky_ex(matrix)
    if int(info) == 0 and not _nearly_singular(matrix, factor):
        return torch.as_tensor(factor)
    values = torch.linalg.eigvalsh(matrix)
    raise NotPositiveDefinite(float(values[0]), float(values.abs().max()), matrix.dtype)


def _nearly_singular(matrix: Tensor, factor: Tensor, iterations: int = 4) -> bool:
    """Whether λ_min ≤ 4 ε λ_max, by a few steps of the power method on A⁻¹ and on A: O(n²)."""
    generator = torch.Generator().manual_seed(0)
    start = torch.randn(matrix.shape[0], 1, generator=generator, dtype=torch.float64).to(matrix)
    low, high = start / start.norm(), start / start.norm()
    smallest = largest = 0.0
    for _ in range(iterations):
        low, high = torch.cholesky_solve(low, factor), matrix @ high
        smallest, largest = 1 / float(low.norm()), float(high.norm())
        low, high = low / low.norm(), high / high.norm()
    return not smallest > 4 * torch.finfo(matrix.dtype).eps * largest


@queries.diagonal.register(CholeskyInverse)
def _diagonal(operator: CholeskyInverse, recurse: Callable[[LinearOperator], Diagonal]) -> Diagonal:
    return Diagonal(operator._dense().diagonal().clone(), operator.space)


@queries.trace.register(CholeskyInverse)
def _trace(operator: CholeskyInverse, recurse: Callable[[LinearOperator], Estimate]) -> Estimate:
    return Estimate(float(operator._dense().diagonal().double().sum()))


@queries.logdet.register(CholeskyInverse)
def _logdet(
    operator: CholeskyInverse, shift: float, recurse: Callable[[LinearOperator, float], Estimate]
) -> Estimate | None:
    return None if shift else Estimate(-2 * float(operator.factor.diagonal().double().log().sum()))


@queries.square_root.register(CholeskyInverse)
def _square_root(
    operator: CholeskyInverse, shift: float, recurse: Callable[[LinearOperator, float], LinearOperator]
) -> LinearOperator | None:
    return None if shift else TriangularInverse(operator.factor.T, operator.space, upper=True)
