"""Which loss a user's function is: torch's modules, torch's functions, and partials of those."""

from __future__ import annotations

import functools
from typing import Any

import torch.nn.functional as F
from torch import nn

from quadric.objective.losses.binary_cross_entropy import BinaryCrossEntropy
from quadric.objective.losses.cross_entropy import CrossEntropy
from quadric.objective.losses.loss import Elementwise, Loss, Option
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
    nonnegative = False
    likelihood = False
    hessian = Loss.hessian
    sample = Loss.sample
    square_root = Loss.square_root


def recognise(loss_fn: Any) -> Loss:
    """The `Loss` of a user's function; any function that is not torch's own goes through autograd.

    Raises TypeError for something that can't be called, ValueError for a reduction other than the mean.
    """
    if not callable(loss_fn):
        raise TypeError(f"Expected loss_fn(outputs, targets) -> scalar, got {type(loss_fn).__name__}.")
    if isinstance(loss_fn, type) and issubclass(loss_fn, nn.Module):
        raise TypeError(f"Expected loss_fn(outputs, targets) -> scalar, got a class: write {loss_fn.__name__}().")
    function, option = _origin(loss_fn)
    reduction = option("reduction", "mean")
    if reduction in ("sum", "none"):
        raise ValueError(
            f'The loss has reduction="{reduction}"; quadric averages over examples. Use reduction="mean" '
            "(and multiply by a constant inside a function of your own if the scale matters)."
        )
    if function is F.cross_entropy:
        return CrossEntropy(loss_fn, option)
    if function is F.nll_loss:
        return NegativeLogLikelihood(loss_fn, option)
    if function is F.mse_loss and option("weight", None) is None:
        return SquaredError(loss_fn, option)
    if function is F.binary_cross_entropy_with_logits:
        return BinaryCrossEntropy(loss_fn, option)
    if function in _ELEMENTWISE and reduction == "mean":
        return Elementwise(loss_fn, option)
    return Loss(loss_fn, option)


def _origin(loss_fn: Any) -> tuple[Any, Option]:
    """torch's function behind `loss_fn` (None for anything else) and how to look up its options as they are now."""
    if type(loss_fn) in _MODULES:
        return _MODULES[type(loss_fn)], lambda name, default: getattr(loss_fn, name, default)
    if isinstance(loss_fn, functools.partial) and not loss_fn.args:
        function, inner = _origin(loss_fn.func)
        return function, lambda name, default: loss_fn.keywords.get(name, inner(name, default))
    if loss_fn in _MODULES.values():
        return loss_fn, lambda name, default: default
    return None, lambda name, default: getattr(loss_fn, name, default) if isinstance(loss_fn, nn.Module) else default
