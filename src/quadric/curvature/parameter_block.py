"""A curvature on some of its parameters: tangents start there, and the reverse pass stops there."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from quadric.curvature.curvature import Curvature
from quadric.curvature.empirical_fisher import EmpiricalFisher
from quadric.curvature.fisher import Fisher
from quadric.curvature.ggn import GGN
from quadric.operators import queries
from quadric.operators.claims import inherit
from quadric.operators.operator import LinearOperator
from quadric.operators.selection import Selection


class ParameterBlock(LinearOperator):
    """C[I, I] of a Gauss–Newton matrix C, I some of its parameters, as live as C and on C's own linearisation.

    Cost of a product: the tangent pass from the first of the parameters on, and the reverse pass down to it.
    """

    def __init__(self, operator: Curvature[Any], selection: Selection, positions: list[int]) -> None:
        super().__init__(selection.space)
        self.operator = operator
        self.positions = positions
        inherit(self, operator)

    def _apply(self, x: Tensor) -> Tensor:
        return self.operator._products(x, self.space, self.positions)

    def _transpose(self) -> LinearOperator:
        return self


@queries.restrict.register(GGN)
@queries.restrict.register(Fisher)
@queries.restrict.register(EmpiricalFisher)
def _restrict(operator: Curvature[Any], selection: Selection) -> LinearOperator | None:
    space, inner = operator.space, selection.space
    if not set(inner.names) <= set(space.names) or (isinstance(operator, EmpiricalFisher) and operator.centered):
        return None
    positions = [space.names.index(name) for name in inner.names]
    if inner.dtypes != tuple(space.dtypes[p] for p in positions):
        return None
    whole = Selection.of_tensors(space, positions).indices
    if whole.shape != selection.indices.shape or not selection.same_as(Selection(inner, whole)):
        return None
    return ParameterBlock(operator, selection, positions)
