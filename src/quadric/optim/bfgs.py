"""The method of Broyden, Fletcher, Goldfarb and Shanno."""

from __future__ import annotations

from quadric.operators.secant import BFGS as INVERSE
from quadric.optim.quasi_newton import QuasiNewton


class BFGS(QuasiNewton):
    """w ← w − α η H g with the update of Broyden, Fletcher, Goldfarb and Shanno (1970): see `QuasiNewton`.

    H⁺ = (I − ρ s yᵀ) H (I − ρ y sᵀ) + ρ s sᵀ, ρ = 1/sᵀy: of all symmetric H⁺ with H⁺y = s, whose inverse is nearest.
    Arguments, cost, errors and mini-batches as there. Reference: Nocedal and Wright (2006), algorithm 6.1.
    """

    _secant = INVERSE
