"""Minimising a function of one tensor or array: one algorithm per file, one driver."""

from quadric.optim.minimize.methods import METHODS
from quadric.optim.minimize.minimize import minimize

__all__ = ["METHODS", "minimize"]
