"""Which loss a user's function is: torch's modules, torch's functions, and partials of those."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Mapping
from typing import Any

import torch.nn.functional as F
from torch import nn

from quadric.objective.losses.binary_cross_entropy import BinaryCrossEntropy
from quadric.objective.losses.cross_entropy import CrossEntropy
from quadric.objective.losses.loss import Elementwise, Loss
from quadric.objective.losses.squared_error import SquaredError

_MODULES: dict[Any, Any] = {
    nn.CrossEntropyLoss: F.cross_entropy,
    nn.NLLLoss: F.nll_loss,
    nn.MSELoss: F.mse_loss,
    nn.BCEWithLogitsLoss: F.binary_cross_entropy_with_logits,
    nn.BCELoss: F.binary_cross_entropy,
    nn.L1Loss: F.l1_loss,
    nn.SmoothL1Loss: F.smooth_l1_loss,
    nn.HuberLoss: F.huber_loss,
    nn.PoissonNLLLoss: F.poisson_nll_loss,
    nn.GaussianNLLLoss: F.gaussian_nll_loss,
    nn.SoftMarginLoss: F.soft_margin_loss,
    nn.KLDivLoss: F.kl_div,
}

_ELEMENTWISE = {
    *(F.binary_cross_entropy, F.l1_loss, F.smooth_l1_loss, F.huber_loss, F.poisson_nll_loss),
    *(F.soft_margin_loss, F.kl_div),
}


class NegativeLogLikelihood(CrossEntropy):
    """`torch.nn.NLLLoss` on log-probabilities: the normaliser of cross-entropy, but linear in the outputs."""

    closed_form = False
    hessian = Loss.hessian


def recognise(loss_fn: Any) -> Loss:
    """The `Loss` of a user's function; any function that is not torch's own goes through autograd.

    Raises TypeError for something that can't be called, ValueError for a reduction other than the mean.
    """
    if not callable(loss_fn):
        raise TypeError(f"Expected loss_fn(outputs, targets) -> scalar, got {type(loss_fn).__name__}.")
    function, options = _options(loss_fn)
    reduction = options.get("reduction", "mean")
    if reduction in ("sum", "none"):
        raise ValueError(
            f'The loss has reduction="{reduction}"; quadric averages over examples. Use reduction="mean" '
            "(and multiply by a constant inside a function of your own if the scale matters)."
        )
    if function is F.cross_entropy:
        return CrossEntropy(
            loss_fn, options.get("weight"), options.get("ignore_index", -100), options.get("label_smoothing", 0.0)
        )
    if function is F.nll_loss:
        return NegativeLogLikelihood(loss_fn, options.get("weight"), options.get("ignore_index", -100), 0.0)
    if function is F.mse_loss and options.get("weight") is None:
        return SquaredError(loss_fn)
    if function is F.binary_cross_entropy_with_logits:
        return BinaryCrossEntropy(loss_fn, options.get("weight"), options.get("pos_weight"))
    if function in _ELEMENTWISE and reduction == "mean":
        return Elementwise(loss_fn)
    return Loss(loss_fn)


def _options(loss_fn: Any) -> tuple[Any, Mapping[str, Any]]:
    """torch's function behind `loss_fn` and the options it is called with; (None, {}) for anything else."""
    if type(loss_fn) in _MODULES:
        function = _MODULES[type(loss_fn)]
        names = inspect.signature(function).parameters
        return function, {name: getattr(loss_fn, name) for name in names if hasattr(loss_fn, name)}
    if isinstance(loss_fn, functools.partial) and not loss_fn.args:
        function, options = _options(loss_fn.func)
        return function, {**options, **loss_fn.keywords}
    if loss_fn in _MODULES.values():
        return loss_fn, {}
    reduction = getattr(loss_fn, "reduction", "mean") if isinstance(loss_fn, nn.Module) else "mean"
    return None, {"reduction": reduction}
