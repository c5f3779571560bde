"""The method of Davidon, Fletcher and Powell."""

from __future__ import annotations

from quadric.operators.secant import DFP as INVERSE
from quadric.optim.quasi_newton import QuasiNewton


class DFP(QuasiNewton):
    """w ← w − α η H g with the update of Davidon (1959), Fletcher and Powell (1963): see `QuasiNewton`.

    H⁺ = H − H y yᵀH / yᵀH y + s sᵀ / sᵀy, the rank-two correction of the inverse nearest to H. It recovers slowly from
    a bad H, so its line search is accurate (c₂ = 0.1). Arguments, cost, errors and mini-batches as there.
    Reference: Nocedal and Wright (2006), equation 6.15.
    """

    _secant = INVERSE
    _accuracy = 0.1
