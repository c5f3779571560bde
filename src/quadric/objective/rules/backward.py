"""The calls of a reverse pass, for Hessian products: how a tangent of the gradient goes along with that of the values.

A backward call is linear in the incoming gradient, so one half of its tangent is the call itself on ġ; the other half
is the derivative of the backward formula in the values, written so that it takes fused kernels too.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from quadric.objective.rules.fallback import by_forward_mode
from quadric.objective.rules.registry import aten, tangent


@tangent(
    *("threshold_backward.default", "hardtanh_backward.default", "leaky_relu_backward.default"),
    *("max_pool2d_with_indices_backward.default",),
    *("avg_pool2d_backward.default", "_adaptive_avg_pool2d_backward.default", "upsample_nearest2d_backward.default"),
    *("nll_loss_backward.default", "nll_loss2d_backward.default"),
    keeps="arguments",
)
def piecewise_linear(call: Any, g: Tensor | None, *_: Any) -> Any:
    """Linear in the gradient, piecewise constant in the values."""
    return None if g is None else call.func(g, *call.args[1:], **call.kwargs)


@tangent("embedding_dense_backward.default", "select_backward.default", "slice_backward.default")
def linear_in_gradient(call: Any, g: Tensor, *_: Any) -> Any:
    """Linear in the gradient; the rest are numbers."""
    return call.func(g, *call.args[1:], **call.kwargs)


@tangent("tanh_backward.default", keeps="arguments")
def tanh(call: Any, g: Tensor | None, y: Tensor | None) -> Any:
    """ġ (1 − y²) − 2 g y ẏ."""
    gradient, value = call.args
    curved = None if y is None else (gradient * value).mul_(y).mul_(-2)
    if g is None:
        return curved
    out = aten.tanh_backward(g, value)
    return out if curved is None else out.add_(curved)


@tangent("sigmoid_backward.default", keeps="arguments")
def sigmoid(call: Any, g: Tensor | None, y: Tensor | None) -> Any:
    """ġ y (1 − y) + g (1 − 2y) ẏ."""
    gradient, value = call.args
    curved = None if y is None else gradient * (1 - 2 * value) * y
    if g is None:
        return curved
    out = aten.sigmoid_backward(g, value)
    return out if curved is None else out.add_(curved)


@tangent("gelu_backward.default", keeps="arguments")
def gelu(call: Any, g: Tensor | None, x: Tensor | None) -> Any:
    """ġ gelu′(x) + g gelu″(x) ẋ, gelu″(x) = (2 − x²) φ(x) for the exact form."""
    gradient, value = call.args
    if x is not None and call.kwargs.get("approximate", "none") != "none":
        return by_forward_mode(call, g, x)
    out = None if g is None else aten.gelu_backward(g, value, **call.kwargs)
    if x is None:
        return out
    square = value * value
    curved = square.mul(-0.5).exp_().mul_(1 / math.sqrt(2 * math.pi))
    curved.mul_(square.neg_().add_(2)).mul_(gradient).mul_(x)
    return curved if out is None else out.add_(curved)


@tangent("_log_softmax_backward_data.default", keeps="arguments")
def log_softmax(call: Any, g: Tensor | None, y: Tensor | None, *_: Any) -> Any:
    """d(g − eʸ Σg) = ġ − eʸ Σġ − eʸ ẏ Σg."""
    gradient, value, dim, dtype = call.args
    out = None if g is None else aten._log_softmax_backward_data(g, value, dim, dtype)
    if y is None:
        return out
    curved = value.exp().mul_(y).mul_(gradient.sum(dim, keepdim=True)).neg_()
    return curved if out is None else out.add_(curved)


@tangent("_softmax_backward_data.default", keeps="arguments")
def softmax(call: Any, g: Tensor | None, p: Tensor | None, *_: Any) -> Any:
    """d(p ∘ (g − ⟨p, g⟩)) = p ∘ (ġ − ⟨p, ġ⟩) + ṗ ∘ (g − ⟨p, g⟩) − p ⟨ṗ, g⟩."""
    gradient, value, dim, dtype = call.args
    out = None if g is None else aten._softmax_backward_data(g, value, dim, dtype)
    if p is None:
        return out
    inner = (value * gradient).sum(dim, keepdim=True)
    moved = (p * gradient).sum(dim, keepdim=True)
    curved = torch.addcmul(p * (gradient - inner), value, moved, value=-1)
    return curved if out is None else out.add_(curved)


@tangent("convolution_backward.default", keeps="arguments")
def convolution(call: Any, g: Tensor | None, x: Tensor | None, w: Tensor | None, *_: Any) -> Any:
    """Bilinear: the gradient of the input in (g, w), that of the weight in (g, x); so two calls."""
    gradient, value, weight, *geometry, mask = call.args
    total: list[Tensor | None] = [None, None, None]
    if g is not None:
        total = list(call.func(g, value, weight, *geometry, mask))
    second = [bool(mask[0]) and w is not None, bool(mask[1]) and x is not None, False]
    if any(second):
        parts = call.func(gradient, value if x is None else x, weight if w is None else w, *geometry, second)
        for i in (0, 1):
            if second[i]:
                total[i] = parts[i] if total[i] is None else total[i].add_(parts[i])  # type: ignore[union-attr]
    return tuple(total)


@tangent("native_batch_norm_backward.default", keeps="arguments")
def batch_norm(call: Any, g: Tensor | None, x: Tensor | None, w: Tensor | None, *_: Any) -> Any:
    """With x̂ = r (x − μ), m the mean over batch and space, P(g) = r (g − m(g) − x̂ m(g x̂)):

    input's gradient w P(g), weight's n m(g x̂), bias's n m(g)
    ẋ̂ = P(ẋ), ṙ/r = −r m(x̂ ẋ), and Ṗ(g) = (ṙ/r) P(g) + P(ġ) − r (ẋ̂ m(g x̂) + x̂ m(g ẋ̂))
    """
    gradient, value, weight, _mean, _var, mean, rstd, train, eps, mask = call.args
    total: list[Tensor | None] = [None, None, None]
    if g is not None:
        total = list(call.func(g.contiguous(), *call.args[1:]))
    if not train:
        return _batch_norm_eval(call, gradient, value, total, x, w)
    dims = [0, *range(2, value.dim())]
    shape = [1, -1] + [1] * (value.dim() - 2)
    n = value.numel() // value.shape[1]
    r = rstd.view(shape)
    if x is not None:
        moved, along, _ = aten.native_batch_norm_backward(
            x.contiguous(), value, None, None, None, mean, rstd, True, eps, [True, True, False]
        )
        with_hat = (gradient * moved).sum(dims)
        if mask[1]:
            total[1] = with_hat if total[1] is None else total[1] + with_hat
        if mask[0]:
            plain, inner, _ = aten.native_batch_norm_backward(
                gradient.contiguous(), value, None, None, None, mean, rstd, True, eps, [True, True, False]
            )
            shrink = (-rstd * along / n).view(shape)
            # x̂ m(g ẋ̂) r is affine in x: per-channel slope and shift
            slope = (rstd * rstd * with_hat / n).view(shape)
            curved = plain.mul_(shrink).addcmul_(moved, (inner / n).view(shape) * r, value=-1)
            curved.addcmul_(value, slope, value=-1).add_(slope * mean.view(shape))
            if weight is not None:
                curved.mul_(weight.view(shape))
            total[0] = curved if total[0] is None else total[0].add_(curved)
    if w is not None and mask[0]:
        plain = aten.native_batch_norm_backward(
            gradient.contiguous(), value, w.contiguous(), None, None, mean, rstd, True, eps, [True, False, False]
        )[0]
        total[0] = plain if total[0] is None else total[0].add_(plain)
    return tuple(total)


def _batch_norm_eval(
    call: Any, gradient: Tensor, value: Tensor, total: list[Tensor | None], x: Tensor | None, w: Tensor | None
) -> Any:
    """With constant statistics: input's gradient g w r, weight's Σ g x̂."""
    running_var, eps, mask = call.args[4], call.args[8], call.args[9]
    dims = [0, *range(2, value.dim())]
    shape = [1, -1] + [1] * (value.dim() - 2)
    r = (running_var + eps).rsqrt()
    if x is not None and mask[1]:
        part = (gradient * x).sum(dims) * r
        total[1] = part if total[1] is None else total[1] + part
    if w is not None and mask[0]:
        part = gradient * (w * r).view(shape)
        total[0] = part if total[0] is None else total[0].add_(part)
    return tuple(total)


@tangent("native_layer_norm_backward.default", keeps="arguments")
def layer_norm(call: Any, g: Tensor | None, x: Tensor | None, *rest: Any) -> Any:
    """As for batch normalisation, with means over the trailing dimensions and h = w ∘ g in the place of g."""
    gradient, value, shape, mean, rstd, weight, _bias, mask = call.args
    w = rest[3] if len(rest) > 3 else None
    total: list[Tensor | None] = [None, None, None]
    if g is not None:
        total = list(call.func(g, *call.args[1:]))
    dims = list(range(value.dim() - len(shape), value.dim()))
    leading = list(range(value.dim() - len(shape)))

    def projected(t: Tensor) -> Tensor:
        out: Tensor = aten.native_layer_norm_backward(t, value, shape, mean, rstd, None, None, [True, False, False])[0]
        return out

    if x is not None:
        moved = projected(x)
        if mask[1]:
            part = (gradient * moved).sum(leading)
            total[1] = part if total[1] is None else total[1] + part
        if mask[0]:
            h = gradient if weight is None else gradient * weight
            hat = (value - mean) * rstd
            curved = projected(h).mul_(-rstd * (hat * x).mean(dims, keepdim=True))
            curved.addcmul_(moved, rstd * (h * hat).mean(dims, keepdim=True), value=-1)
            curved.addcmul_(hat, rstd * (h * moved).mean(dims, keepdim=True), value=-1)
            total[0] = curved if total[0] is None else total[0].add_(curved)
    if w is not None and mask[0]:
        part = projected(gradient * w)
        total[0] = part if total[0] is None else total[0].add_(part)
    return tuple(total)
