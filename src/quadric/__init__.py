"""quadric: the local quadratic model of a loss, to look at, to solve with, to step with and to judge."""

from quadric import operators, optim
from quadric.analysis import Monitor, classify, filter_normalized, loss_slice, sharpness
from quadric.core.allocator import keep_freed_memory
from quadric.core.errors import ConvergenceError, NotConverged, QuadricWarning, StepRejected
from quadric.curvature import EKFAC, GGN, KFAC, EmpiricalFisher, Fisher, Hessian, Jacobian
from quadric.linalg import (
    diagonal,
    eigsh,
    frobenius_norm,
    inverse,
    logdet,
    low_rank,
    nystrom_preconditioner,
    sample_normal,
    spectral_density,
    square_root,
    trace,
)
from quadric.objective import Objective
from quadric.operators import (
    LinearOperator,
    block_diagonal,
    claim_symmetric,
    factored_damping,
    identity_like,
    sub_matrix,
)
from quadric.optim.minimize import minimize

__version__ = "0.1.0"

__all__ = [
    "EKFAC",
    "GGN",
    "KFAC",
    "ConvergenceError",
    "EmpiricalFisher",
    "Fisher",
    "Hessian",
    "Jacobian",
    "LinearOperator",
    "Monitor",
    "NotConverged",
    "Objective",
    "QuadricWarning",
    "StepRejected",
    "block_diagonal",
    "claim_symmetric",
    "classify",
    "diagonal",
    "eigsh",
    "factored_damping",
    "filter_normalized",
    "frobenius_norm",
    "identity_like",
    "inverse",
    "keep_freed_memory",
    "logdet",
    "loss_slice",
    "low_rank",
    "minimize",
    "nystrom_preconditioner",
    "operators",
    "optim",
    "sample_normal",
    "sharpness",
    "spectral_density",
    "square_root",
    "sub_matrix",
    "trace",
]
