"""The symmetric rank-one method."""

from __future__ import annotations

from torch import Tensor

from quadric.operators.secant import SR1 as INVERSE
from quadric.operators.secant import Secant
from quadric.optim.operator_model import OperatorModel, inner
from quadric.optim.quasi_newton import QuasiNewton


class SR1(QuasiNewton):
    """w ← w − α η H g with the symmetric rank-one update: see `QuasiNewton`.

    H⁺ = H + v vᵀ / vᵀy with v = s − H y. H need not be definite: where −H g ascends, the step goes along +H g. H begins
    at half of sᵀs / |sᵀy| of the first pair, half the inverse curvature along it, so that the first v is not zero. On
    mini-batches damped pairs do not bound H here, so that a step is cut to ‖g‖ / (δe), which H has for a bound in BFGS.
    Arguments, cost and errors as there. Reference: Nocedal and Wright (2006), algorithm 6.2, here with a line search in
    place of the trust region.
    """

    _secant = INVERSE

    def _direction(self, model: OperatorModel, approximation: Secant, exact: bool) -> Tensor:
        direction = super()._direction(model, approximation, exact)
        damping = self._damping()
        if exact or damping == 0:
            return direction
        return direction * min(1.0, float(model.gradient.norm() / direction.norm()) / damping)

    def _learn(self, approximation: Secant, s: Tensor, y: Tensor, exact: bool) -> None:
        product = abs(inner(s, y))
        if not approximation.accepted and product > 0:
            approximation.initial = approximation.scale = 0.5 * inner(s, s) / product
        super()._learn(approximation, s, y, exact)
