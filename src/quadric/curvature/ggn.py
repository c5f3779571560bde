"""The generalised Gauss–Newton matrix."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from quadric.core.randomness import Seed
from quadric.curvature.curvature import Curvature
from quadric.objective.batch import Batch
from quadric.objective.linearization import Linearization
from quadric.objective.objective import Objective


class GGN(Curvature[Linearization]):
    """G = Jᵀ H_ℓ J, J = ∂outputs/∂w, H_ℓ = ∂²ℓ/∂outputs²; positive semi-definite for a convex loss.

    Torch's losses are known to be convex; a function of your own says so by an attribute, `loss_fn.convex = True`.

    For cross-entropy and squared error it equals the exact Fisher matrix. `data` is one batch or an iterable of them.
    `routes` says after a product how tangents went ("tape" or "double reverse").

    Cost of `G @ v` on one batch: 4/3 of a gradient, 5/3 with the first product's forward pass. Reference: Schraudolph
    (2002), Fast curvature matrix-vector products.
    """

    def __init__(self, objective: Objective, data: Any = None, *, seed: Seed = 0) -> None:
        super().__init__(objective, data, seed=seed)
        self.positive_semidefinite = objective.loss is not None and objective.loss.convex

    def _local(self, batch: Batch) -> Linearization:
        return Linearization(self.objective, batch)

    def _product(self, local: Linearization, v: Sequence[Tensor], retain: bool) -> list[Tensor]:
        return local.ggn(v, retain=retain)

    def _narrowed(self, local: Linearization, positions: Sequence[int]) -> Linearization:
        return local.narrowed(positions)

    def _weight(self, local: Linearization) -> float:
        return local.weight

    def _loss(self, local: Linearization) -> Tensor:
        return local.loss

    def _route(self, local: Linearization) -> str:
        return local.route
