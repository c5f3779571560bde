"""EKFAC: K-FAC with second moments that are right in the factors' eigenvectors."""

from __future__ import annotations

from typing import Any

from quadric.curvature import EKFAC as Factored
from quadric.curvature.kronecker.passes import Forward
from quadric.linalg import inverse
from quadric.objective.batch import Batch
from quadric.objective.objective import Objective
from quadric.operators import BlockDiagonal
from quadric.optim.kfac import KFAC


class EKFAC(KFAC):
    """`KFAC` with P = F + (λ + ω)I exactly damped, F the running average of `quadric.EKFAC`.

    Every `factor_interval` batches the factors and, in the eigenvectors in use, the second moments of the per-example
    gradients take in a batch; every `inverse_interval` steps the eigenvectors are those of the factors again. P⁻¹ is
    that of each step. Arguments, step size and momentum are those of `KFAC`. Cost: that of `KFAC`, with an
    eigen-decomposition of each factor in place of an inverse, and four small products for each layer in place of two.
    Reference: George et al. (2018), Fast approximate natural gradient descent in a Kronecker-factored eigenbasis,
    algorithm 1, with a running average.
    """

    def _factored(self, objective: Objective) -> Any:
        return Factored(objective, fisher=self.fisher, sharing=self.sharing)

    def _update(self, operator: Any, data: list[Batch] | Forward, decay: float) -> None:
        operator.update(data, decay, refresh=super()._refreshes())

    def _refreshes(self) -> bool:
        """At every step: damping costs one addition here."""
        return True

    def _inverted(self, operator: BlockDiagonal, damping: float) -> BlockDiagonal:
        return operator.map(lambda block: inverse(block, damping))
