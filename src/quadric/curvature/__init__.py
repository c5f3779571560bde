"""Curvatures of an objective on data, and the Jacobian of its outputs, as operators."""

from quadric.curvature import exact_diagonal, parameter_block, regularity  # noqa: F401 - they register closed forms
from quadric.curvature.ekfac import EKFAC
from quadric.curvature.empirical_fisher import EmpiricalFisher
from quadric.curvature.fisher import Fisher
from quadric.curvature.ggn import GGN
from quadric.curvature.hessian import Hessian
from quadric.curvature.jacobian import Jacobian
from quadric.curvature.kfac import KFAC

__all__ = ["EKFAC", "GGN", "KFAC", "EmpiricalFisher", "Fisher", "Hessian", "Jacobian"]
