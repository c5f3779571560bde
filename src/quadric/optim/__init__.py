"""Optimisers: curvature × structure × damping × step rule, and torch's own by name."""

from quadric.optim.adahessian import AdaHessian
from quadric.optim.curveball import CurveBall
from quadric.optim.muon import Muon
from quadric.optim.registry import create, names, summary
from quadric.optim.sophia import Sophia

__all__ = ["AdaHessian", "CurveBall", "Muon", "Sophia", "create", "names", "summary"]
