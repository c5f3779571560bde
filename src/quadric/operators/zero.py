"""The zero operator."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from quadric.core.space import Space
from quadric.operators import queries
from quadric.operators.diagonal import Diagonal
from quadric.operators.estimate import Estimate
from quadric.operators.operator import LinearOperator
from quadric.operators.selection import Selection


class Zero(LinearOperator):
    """0 from a space to itself or to another one."""

    def __init__(self, domain: Space, codomain: Space | None = None) -> None:
        super().__init__(domain, codomain)
        self.symmetric = self.positive_semidefinite = self.shape[0] == self.shape[1]

    def _apply(self, x: Tensor) -> Tensor:
        return x.new_zeros(self.codomain.numel, x.shape[1])

    def _transpose(self) -> LinearOperator:
        return Zero(self.codomain, self.domain)


@queries.diagonal.register(Zero)
def _diagonal(operator: Zero, recurse: Callable[[LinearOperator], Diagonal]) -> Diagonal:
    return Diagonal.constant(0.0, operator.space)


@queries.trace.register(Zero)
def _trace(operator: Zero, recurse: Callable[[LinearOperator], Estimate]) -> Estimate:
    return Estimate(0.0)


@queries.restrict.register(Zero)
def _restrict(operator: Zero, selection: Selection) -> LinearOperator:
    return Zero(selection.space)
