"""The exact Hessian."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from quadric.curvature.curvature import Curvature
from quadric.objective.batch import Batch
from quadric.objective.linearization import GradientGraph


class Hessian(Curvature[GradientGraph]):
    """H = ∂²f/∂w². `data` is one batch or an iterable of them; `routes` says after a product which way it went.

    Cost of `H @ v` on one batch: about 2 gradients, plus the graph of the gradient (1 to 2) at the first product.
    Reference: Pearlmutter (1994), Fast exact multiplication by the Hessian.
    """

    def _local(self, batch: Batch) -> GradientGraph:
        return GradientGraph(self.objective, batch)

    def _product(self, local: GradientGraph, v: Sequence[Tensor], retain: bool) -> list[Tensor]:
        return local.hessian(v, retain=retain)

    def _weight(self, local: GradientGraph) -> float:
        return local.weight

    def _loss(self, local: GradientGraph) -> Tensor:
        return local.loss

    def _route(self, local: GradientGraph) -> str:
        return local.route
