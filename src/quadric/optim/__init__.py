"""Optimisers: curvature × structure × damping × step rule, and torch's own by name."""

from quadric.optim.curveball import CurveBall
from quadric.optim.registry import create, names, summary

__all__ = ["CurveBall", "create", "names", "summary"]
