"""Curvatures of an objective on data, as operators."""

from quadric.curvature.ggn import GGN
from quadric.curvature.hessian import Hessian

__all__ = ["GGN", "Hessian"]
