"""Sums, products, multiples and transposes of operators are operators."""

from __future__ import annotations

from torch import Tensor

from quadric.operators.operator import LinearOperator


class Sum(LinearOperator):
    """A + B."""

    def __init__(self, left: LinearOperator, right: LinearOperator) -> None:
        if not (left.domain.same_as(right.domain) and left.codomain.same_as(right.codomain)):
            raise ValueError(
                f"Can't add operators of shape {left.shape} ({left.dtype}, {left.device}) and "
                f"{right.shape} ({right.dtype}, {right.device}): shape, dtype and device must agree."
            )
        super().__init__(left.domain, left.codomain)
        self.left = left
        self.right = right
        self.symmetric = left.symmetric and right.symmetric
        self.positive_semidefinite = left.positive_semidefinite and right.positive_semidefinite

    def _apply(self, x: Tensor) -> Tensor:
        return self.left._apply(x) + self.right._apply(x)

    def _transpose(self) -> LinearOperator:
        return Sum(self.left.T, self.right.T)


class Product(LinearOperator):
    """A B: first B, then A."""

    def __init__(self, left: LinearOperator, right: LinearOperator) -> None:
        if not left.domain.same_as(right.codomain):
            raise ValueError(
                f"Can't compose operators of shape {left.shape} ({left.dtype}, {left.device}) and "
                f"{right.shape} ({right.dtype}, {right.device}): what the right one returns must fit the left one."
            )
        super().__init__(right.domain, left.codomain)
        self.left = left
        self.right = right

    def _apply(self, x: Tensor) -> Tensor:
        return self.left._apply(self.right._apply(x))

    def _transpose(self) -> LinearOperator:
        return Product(self.right.T, self.left.T)


class Scaled(LinearOperator):
    """c A for a real number c."""

    def __init__(self, operator: LinearOperator, factor: float) -> None:
        super().__init__(operator.domain, operator.codomain)
        self.operator = operator
        self.factor = factor
        self.symmetric = operator.symmetric
        self.positive_semidefinite = operator.positive_semidefinite and factor >= 0

    def _apply(self, x: Tensor) -> Tensor:
        return self.factor * self.operator._apply(x)

    def _transpose(self) -> LinearOperator:
        return Scaled(self.operator.T, self.factor)


class Transposed(LinearOperator):
    """Aᵀ of an operator that offers its transposed product as a method."""

    def __init__(self, operator: LinearOperator) -> None:
        super().__init__(operator.codomain, operator.domain)
        self.operator = operator

    def _apply(self, x: Tensor) -> Tensor:
        return self.operator._apply_transposed(x)  # type: ignore[attr-defined,no-any-return]

    def _transpose(self) -> LinearOperator:
        return self.operator
