"""The method of Broyden, Fletcher, Goldfarb and Shanno."""

from __future__ import annotations

from quadric.operators.secant import BFGS as Approximation
from quadric.optim.quasi_newton import QuasiNewton


class BFGS(QuasiNewton):
    __doc__ = QuasiNewton.__doc__
    _secant = Approximation
