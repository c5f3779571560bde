"""Optimisers: curvature × structure × damping × step rule, and torch's own by name."""

from quadric.optim.adahessian import AdaHessian
from quadric.optim.bfgs import BFGS
from quadric.optim.curveball import CurveBall
from quadric.optim.dfp import DFP
from quadric.optim.ekfac import EKFAC
from quadric.optim.kfac import KFAC
from quadric.optim.lbfgs import LBFGS
from quadric.optim.levenberg_marquardt import LevenbergMarquardt
from quadric.optim.muon import Muon
from quadric.optim.newton import Newton
from quadric.optim.newton_cg import NewtonCG
from quadric.optim.quadratic_step import QuadraticStep
from quadric.optim.registry import create, names, summary
from quadric.optim.saddle_free_newton import SaddleFreeNewton
from quadric.optim.shampoo import Shampoo
from quadric.optim.soap import SOAP
from quadric.optim.sophia import Sophia
from quadric.optim.sr1 import SR1
from quadric.optim.trust_region import TrustRegion

__all__ = [
    "BFGS",
    "DFP",
    "EKFAC",
    "KFAC",
    "LBFGS",
    "SOAP",
    "SR1",
    "AdaHessian",
    "CurveBall",
    "LevenbergMarquardt",
    "Muon",
    "Newton",
    "NewtonCG",
    "QuadraticStep",
    "SaddleFreeNewton",
    "Shampoo",
    "Sophia",
    "TrustRegion",
    "create",
    "names",
    "summary",
]
