"""Curvatures of an objective on data, and the Jacobian of its outputs, as operators."""

from quadric.curvature.empirical_fisher import EmpiricalFisher
from quadric.curvature.fisher import Fisher
from quadric.curvature.ggn import GGN
from quadric.curvature.hessian import Hessian
from quadric.curvature.jacobian import Jacobian

__all__ = ["GGN", "EmpiricalFisher", "Fisher", "Hessian", "Jacobian"]
