"""Loss functions on the tape of a gradient."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from quadric.objective.rules.registry import aten, tangent


@tangent("nll_loss_forward.default", "nll_loss2d_forward.default")
def nll_loss(call: Any, x: Tensor, *_: Any) -> Any:
    """Linear in the log-probabilities."""
    return call.func(x, *call.args[1:])[0], None


@tangent("mse_loss.default", keeps="arguments")
def mse_loss(call: Any, x: Tensor | None, t: Tensor | None = None, *_: Any) -> Any:
    """2 (y − t)ᵀ(ẏ − ṫ) / m; for the mean."""
    value, target, *reduction = call.args
    moved = x if t is None else -t if x is None else x - t
    slope = aten.mse_loss_backward(value.new_ones(()), value, target, reduction[0] if reduction else 1)
    return (slope * moved).sum() if not reduction or reduction[0] else slope * moved


@tangent("mse_loss_backward.default", keeps="arguments")
def mse_loss_backward(call: Any, g: Tensor | None, x: Tensor | None, t: Tensor | None = None, *_: Any) -> Any:
    """d(2 g (y − t) / m): linear in the gradient, and in the residual."""
    gradient, value, target, reduction = call.args
    out = None if g is None else aten.mse_loss_backward(g, value, target, reduction)
    if x is None and t is None:
        return out
    zero = torch.zeros_like(value)
    curved = aten.mse_loss_backward(gradient, zero if x is None else x, zero if t is None else t, reduction)
    return curved if out is None else out.add_(curved)
