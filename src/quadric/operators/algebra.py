"""Sums, products, multiples and transposes of operators are operators."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from quadric.operators import queries
from quadric.operators.claims import inherit
from quadric.operators.diagonal import Diagonal
from quadric.operators.estimate import Estimate
from quadric.operators.operator import LinearOperator
from quadric.operators.selection import Selection
from quadric.operators.sub_matrix import principal


class Sum(LinearOperator):
    """A + B."""

    def __init__(self, left: LinearOperator, right: LinearOperator) -> None:
        if not (left.domain.same_as(right.domain) and left.codomain.same_as(right.codomain)):
            raise ValueError(
                f"Can't add operators of shape {left.shape} ({left.dtype}, {left.device}) and "
                f"{right.shape} ({right.dtype}, {right.device}): shape, dtype and device must agree."
            )
        named = right if _nameless(left) and not _nameless(right) else left
        super().__init__(named.domain, named.codomain)
        self.left = left
        self.right = right
        inherit(self, left, right)

    def _apply(self, x: Tensor) -> Tensor:
        return self.left._apply(x) + self.right._apply(x)

    def _transpose(self) -> LinearOperator:
        return Sum(self.left.T, self.right.T)

    def _dense(self) -> Tensor:
        return self.left._dense() + self.right._dense()


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

    def _dense(self) -> Tensor:
        return self.left._apply(self.right._dense())


class Scaled(LinearOperator):
    """c A for a real number c."""

    def __init__(self, operator: LinearOperator, factor: float) -> None:
        super().__init__(operator.domain, operator.codomain)
        self.operator = operator
        self.factor = factor
        inherit(self, operator, sign=factor)

    def _apply(self, x: Tensor) -> Tensor:
        return self.factor * self.operator._apply(x)

    def _transpose(self) -> LinearOperator:
        return Scaled(self.operator.T, self.factor)

    def _dense(self) -> Tensor:
        return self.factor * self.operator._dense()


class Transposed(LinearOperator):
    """Aᵀ of an operator that offers its transposed product as a method."""

    def __init__(self, operator: LinearOperator) -> None:
        super().__init__(operator.codomain, operator.domain)
        self.operator = operator
        inherit(self, operator)

    def _apply(self, x: Tensor) -> Tensor:
        return self.operator._apply_transposed(x)  # type: ignore[attr-defined,no-any-return]

    def _transpose(self) -> LinearOperator:
        return self.operator


def _nameless(operator: LinearOperator) -> bool:
    return not any(operator.domain.names)


@queries.diagonal.register(Sum)
def _sum_diagonal(operator: Sum, recurse: Callable[[LinearOperator], Diagonal]) -> Diagonal:
    """Standard errors add, which holds whatever the correlation."""
    left, right = recurse(operator.left), recurse(operator.right)
    exact = left.exact and right.exact
    error = None if exact else left.standard_error + right.standard_error
    return Diagonal(
        left.values + right.values, operator.space, error,
        products=left.products + right.products, converged=left.converged and right.converged,
    )  # fmt: skip


@queries.trace.register(Sum)
def _sum_trace(operator: Sum, recurse: Callable[[LinearOperator], Estimate]) -> Estimate:
    return recurse(operator.left) + recurse(operator.right)


@queries.restrict.register(Sum)
def _sum_restrict(operator: Sum, selection: Selection) -> LinearOperator:
    return Sum(principal(operator.left, selection), principal(operator.right, selection))


@queries.diagonal.register(Scaled)
def _scaled_diagonal(operator: Scaled, recurse: Callable[[LinearOperator], Diagonal]) -> Diagonal:
    inner, factor = recurse(operator.operator), operator.factor
    error = None if inner.exact else abs(factor) * inner.standard_error
    return Diagonal(factor * inner.values, operator.space, error, products=inner.products, converged=inner.converged)


@queries.trace.register(Scaled)
def _scaled_trace(operator: Scaled, recurse: Callable[[LinearOperator], Estimate]) -> Estimate:
    return recurse(operator.operator).times(operator.factor)


@queries.restrict.register(Scaled)
def _scaled_restrict(operator: Scaled, selection: Selection) -> LinearOperator:
    return Scaled(principal(operator.operator, selection), operator.factor)


@queries.diagonal.register(Transposed)
def _transposed_diagonal(operator: Transposed, recurse: Callable[[LinearOperator], Diagonal]) -> Diagonal:
    return recurse(operator.operator)


@queries.trace.register(Transposed)
def _transposed_trace(operator: Transposed, recurse: Callable[[LinearOperator], Estimate]) -> Estimate:
    return recurse(operator.operator)
