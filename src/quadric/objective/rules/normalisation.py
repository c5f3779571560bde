"""Normalisation layers: y = w x̂ + b with x̂ = P(x).

Up to the scale w, the Jacobian of x̂ is the symmetric matrix rstd (I − 11ᵀ/m − x̂x̂ᵀ/m), so the tangent through
the input is the backward kernel; the tangent through scale and shift is one more normalisation, with ẇ and ḃ in
their places. The kernels take contiguous memory for granted.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from quadric.objective.rules.registry import aten, tangent


@tangent("native_batch_norm.default", "cudnn_batch_norm.default", "miopen_batch_norm.default", keeps="arguments output")
def batch_norm(call: Any, x: Tensor | None, w: Tensor | None, b: Tensor | None, *_: Any) -> Any:
    """Batch statistics in train mode, running statistics (constants) in eval mode."""
    value, weight, _bias, running_mean, running_var, train, _momentum, eps = call.args[:8]
    if train:
        mean, rstd = call.outputs[1], call.outputs[2]
        variance = rstd.pow(-2)
        plain_eps = 0.0
    else:
        mean, rstd, variance, plain_eps = running_mean, None, running_var, eps
    out = None
    if x is not None:
        out = aten.native_batch_norm_backward(
            x.contiguous(), value, weight, running_mean, running_var, mean, rstd, train, eps, [True, False, False]
        )[0]
    if w is not None or b is not None:
        w = torch.zeros_like(mean) if w is None else w
        moved = aten.native_batch_norm(value, w.contiguous(), _contiguous(b), mean, variance, False, 0.0, plain_eps)[0]
        out = moved if out is None else out.add_(moved)
    return out, None, None


@tangent("native_layer_norm.default", keeps="arguments output")
def layer_norm(call: Any, x: Tensor | None, _: Any, w: Tensor | None, b: Tensor | None, *__: Any) -> Any:
    """Statistics over the trailing dimensions of each example."""
    value, shape, weight, _bias, eps = call.args
    out = None
    if x is not None:
        out = aten.native_layer_norm_backward(
            x, value, shape, call.outputs[1], call.outputs[2], None, None, [True, False, False]
        )[0]
        if weight is not None:
            out.mul_(weight)
    if w is not None:
        moved = aten.native_layer_norm(value, shape, w.contiguous(), _contiguous(b), eps)[0]
        out = moved if out is None else out.add_(moved)
    elif b is not None:
        out = b.expand(call.outputs[0].shape).clone() if out is None else out.add_(b)
    return out, None, None


@tangent("native_group_norm.default", keeps="arguments output")
def group_norm(call: Any, x: Tensor | None, w: Tensor | None, b: Tensor | None, *_: Any) -> Any:
    """Statistics over groups of channels of each example."""
    value, weight, _bias, n, c, hw, group, eps = call.args
    out = None
    if x is not None:
        out = aten.native_group_norm_backward(
            x.contiguous(),
            value.contiguous(),
            call.outputs[1],
            call.outputs[2],
            None,
            n,
            c,
            hw,
            group,
            [True, False, False],
        )[0]
        if weight is not None:
            out.mul_(weight.view(-1, *[1] * (value.dim() - 2)))
    if w is not None or b is not None:
        w = torch.zeros(c, dtype=value.dtype, device=value.device) if w is None else w
        moved = aten.native_group_norm(value.contiguous(), w.contiguous(), _contiguous(b), n, c, hw, group, eps)[0]
        out = moved if out is None else out.add_(moved)
    return out, None, None


def _contiguous(tensor: Tensor | None) -> Tensor | None:
    return None if tensor is None else tensor.contiguous()
