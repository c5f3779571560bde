"""The exact Hessian."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from quadric.curvature.curvature import Curvature
from quadric.objective.batch import Batch
from quadric.objective.gradient import GradientGraph, TapedGradient, differentiable_gradient


class Hessian(Curvature[TapedGradient | GradientGraph]):
    """H = ∂²f/∂w². `data` is one batch or an iterable of them.

    `routes` says after a product which way it went: "tape" (tangents through the recorded forward and reverse pass) or
    "double backward", where a call has no tangent rule of its own or calls are small. Both are exact.

    Cost of `H @ v` on one batch: 2 gradients in matrix products, one more with the first. Reference: Pearlmutter
    (1994), Fast exact multiplication by the Hessian.
    """

    _untaped = False
    """Whether a batch could not be taped; the next ones are not tried."""

    def _local(self, batch: Batch) -> TapedGradient | GradientGraph:
        if not self._untaped:
            taped = differentiable_gradient(self.objective, batch)
            if isinstance(taped, GradientGraph) or taped.hole is None:
                return taped
            if "_weight_norm_interface" in taped.hole:
                raise NotImplementedError(
                    "torch's second derivative of weight_norm is wrong on the CPU (not even symmetric), so there is no "
                    "exact Hessian. Gauss–Newton products (quadric.GGN) are right; or write the normalisation out."
                )
            self._untaped = True
        return GradientGraph(self.objective, batch)

    def _product(self, local: TapedGradient | GradientGraph, v: Sequence[Tensor], retain: bool) -> list[Tensor]:
        return local.hessian(v, retain=retain)

    def _weight(self, local: TapedGradient | GradientGraph) -> float:
        return local.weight

    def _loss(self, local: TapedGradient | GradientGraph) -> Tensor:
        return local.loss

    def _route(self, local: TapedGradient | GradientGraph) -> str:
        return local.route
