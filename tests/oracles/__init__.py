"""Dense float64 answers, computed by routes that share nothing with the package."""

from oracles.closeness import assert_close
from oracles.curveball import DenseCurveBall
from oracles.derivatives import ggn, gradient, hessian, hessian_product, jacobian, loss, normaliser, restored, select

__all__ = [
    "DenseCurveBall",
    "assert_close",
    "ggn",
    "gradient",
    "hessian",
    "hessian_product",
    "jacobian",
    "loss",
    "normaliser",
    "restored",
    "select",
]
