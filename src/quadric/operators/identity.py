"""The identity."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from quadric.operators import queries
from quadric.operators.diagonal import Diagonal
from quadric.operators.estimate import Estimate
from quadric.operators.operator import LinearOperator
from quadric.operators.selection import Selection


class Identity(LinearOperator):
    """I on a space."""

    symmetric = True
    positive_semidefinite = True

    def _apply(self, x: Tensor) -> Tensor:
        return x.clone()

    def _transpose(self) -> LinearOperator:
        return self


def identity_like(operator: LinearOperator) -> Identity:
    """The identity on the space of a square operator. Raises ValueError for a rectangular one."""
    return Identity(operator.space)


@queries.diagonal.register(Identity)
def _diagonal(operator: Identity, recurse: Callable[[LinearOperator], Diagonal]) -> Diagonal:
    return Diagonal.constant(1.0, operator.space)


@queries.trace.register(Identity)
def _trace(operator: Identity, recurse: Callable[[LinearOperator], Estimate]) -> Estimate:
    return Estimate(float(operator.shape[0]))


@queries.restrict.register(Identity)
def _restrict(operator: Identity, selection: Selection) -> LinearOperator:
    return Identity(selection.space)
