"""The exact Hessian."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from quadric.curvature.curvature import Curvature
from quadric.objective.batch import Batch
from quadric.objective.gradient import GradientGraph, TapedGradient, differentiated


class Hessian(Curvature[TapedGradient | GradientGraph]):
    """H = ∂²f/∂w². `data` is one batch or an iterable of them.

    `routes` says after a product which way it went: "tape" (tangents through the recorded forward and reverse pass) or
    "double backward", where a call has no tangent rule of its own. Both are exact.

    Cost of `H @ v` on one batch: 2 gradients in matrix products, one more with the first. Reference: Pearlmutter
    (1994), Fast exact multiplication by the Hessian.
    """

    _untaped = False
    """Whether a batch could not be taped; the next ones are not tried."""

    def _local(self, batch: Batch) -> TapedGradient | GradientGraph:
        local = differentiated(self.objective, batch, taped=not self._untaped)
        self._untaped = self._untaped or local.hole is not None
        return local

    def _product(self, local: TapedGradient | GradientGraph, v: Sequence[Tensor], retain: bool) -> list[Tensor]:
        return local.hessian(v, retain=retain)

    def _weight(self, local: TapedGradient | GradientGraph) -> float:
        return local.weight

    def _loss(self, local: TapedGradient | GradientGraph) -> Tensor:
        return local.loss

    def _route(self, local: TapedGradient | GradientGraph) -> str:
        return local.route
