"""quadric: the local quadratic model of a loss, to look at, to solve with, to step with and to judge."""

from quadric import optim
from quadric.core.errors import ConvergenceError, NotConverged, QuadricWarning, StepRejected
from quadric.curvature import GGN, Hessian
from quadric.objective import Objective
from quadric.operators import LinearOperator, identity_like

__version__ = "0.1.0"

__all__ = [
    "GGN",
    "ConvergenceError",
    "Hessian",
    "LinearOperator",
    "NotConverged",
    "Objective",
    "QuadricWarning",
    "StepRejected",
    "identity_like",
    "optim",
]
