"""Optimisers: curvature × structure × damping × step rule, and torch's own by name."""

from quadric.optim.adahessian import AdaHessian
from quadric.optim.curveball import CurveBall
from quadric.optim.muon import Muon
from quadric.optim.quadratic_step import QuadraticStep
from quadric.optim.registry import create, names, summary
from quadric.optim.shampoo import Shampoo
from quadric.optim.soap import SOAP
from quadric.optim.sophia import Sophia

__all__ = [
    "SOAP",
    "AdaHessian",
    "CurveBall",
    "Muon",
    "QuadraticStep",
    "Shampoo",
    "Sophia",
    "create",
    "names",
    "summary",
]
