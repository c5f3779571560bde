"""Secant approximations of the inverse Hessian."""

from quadric.operators.secant.bfgs import BFGS
from quadric.operators.secant.dfp import DFP
from quadric.operators.secant.secant import Secant, SecantUpdate
from quadric.operators.secant.sr1 import SR1

__all__ = ["BFGS", "DFP", "SR1", "Secant", "SecantUpdate"]
