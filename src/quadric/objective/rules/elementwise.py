"""Element-wise functions: the Jacobian is diagonal, so the tangent is one fused `*_backward` kernel."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from quadric.objective.rules.registry import aten, tangent

# ---- functions whose derivative is read off the output


@tangent("tanh.default", keeps="output")
def tanh(call: Any, x: Tensor) -> Any:
    """ẋ (1 − y²)."""
    return aten.tanh_backward(x, call.output)


@tangent("sigmoid.default", keeps="output")
def sigmoid(call: Any, x: Tensor) -> Any:
    """ẋ y (1 − y)."""
    return aten.sigmoid_backward(x, call.output)


@tangent("relu.default", keeps="output")
def relu(call: Any, x: Tensor) -> Any:
    """ẋ where y > 0."""
    return aten.threshold_backward(x, call.output, 0)


@tangent("exp.default", keeps="output")
def exp(call: Any, x: Tensor) -> Any:
    """ẋ y."""
    return x * call.output


@tangent("sqrt.default", keeps="output")
def sqrt(call: Any, x: Tensor) -> Any:
    """ẋ / 2y."""
    return x / (2 * call.output)


@tangent("rsqrt.default", keeps="output")
def rsqrt(call: Any, x: Tensor) -> Any:
    """−½ ẋ y³."""
    return -0.5 * x * call.output.pow(3)


@tangent("reciprocal.default", keeps="output")
def reciprocal(call: Any, x: Tensor) -> Any:
    """−ẋ y²."""
    return -x * call.output * call.output


# ---- functions whose derivative is read off the argument


@tangent("gelu.default", keeps="arguments")
def gelu(call: Any, x: Tensor) -> Any:
    """ẋ gelu′(x), exact or with the tanh approximation."""
    return aten.gelu_backward(x, call.args[0], **call.kwargs)


@tangent("silu.default", keeps="arguments")
def silu(call: Any, x: Tensor) -> Any:
    """ẋ silu′(x)."""
    return aten.silu_backward(x, call.args[0])


@tangent("hardswish.default", keeps="arguments")
def hardswish(call: Any, x: Tensor) -> Any:
    """ẋ hardswish′(x)."""
    return aten.hardswish_backward(x, call.args[0])


@tangent("leaky_relu.default", keeps="arguments")
def leaky_relu(call: Any, x: Tensor, *_: Any) -> Any:
    """ẋ where x > 0, else slope · ẋ."""
    slope = call.args[1] if len(call.args) > 1 else 0.01
    return aten.leaky_relu_backward(x, call.args[0], slope, False)


@tangent("hardtanh.default", keeps="arguments")
def hardtanh(call: Any, x: Tensor, *_: Any) -> Any:
    """ẋ where low < x < high."""
    low, high = (*call.args[1:3], -1.0, 1.0)[:2] if len(call.args) != 2 else (call.args[1], 1.0)
    return aten.hardtanh_backward(x, call.args[0], low, high)


@tangent("log.default", keeps="arguments")
def log(call: Any, x: Tensor) -> Any:
    """ẋ / x."""
    return x / call.args[0]


@tangent("native_dropout.default", keeps="output")
def native_dropout(call: Any, x: Tensor, *_: Any) -> Any:
    """The same mask and scale again."""
    probability, train = call.args[1], call.args[2]
    if train is False:
        return x.clone()
    scale = 0.0 if probability == 1 else 1 / (1 - probability)
    return aten.native_dropout_backward(x, call.outputs[1], scale), None


# ---- sums and products of two tensors


@tangent("add.Tensor", "sub.Tensor", "rsub.Tensor", "add.Scalar", "sub.Scalar", "rsub.Scalar")
def add(call: Any, a: Tensor | None, b: Tensor | None = None, *_: Any) -> Any:
    """ȧ ± α ḃ, spread to the output's shape."""
    name = str(call.func.name())
    alpha = call.kwargs.get("alpha", call.args[2] if len(call.args) > 2 else 1)
    if "rsub" in name:
        a, b = (b, None if a is None else alpha * a) if a is None or b is None else (b, a * alpha)
        alpha = -1
    elif "sub" in name:
        alpha = -alpha
    if a is not None and b is not None:
        return torch.add(a, b, alpha=alpha)
    moved = a if a is not None else b if alpha == 1 else b * alpha
    return _spread(call, moved)


@tangent("mul.Tensor", "mul.Scalar", keeps="others")
def mul(call: Any, a: Tensor | None, b: Tensor | None = None) -> Any:
    """ȧ b + a ḃ."""
    left, right = call.args
    if b is None:
        return a * right
    if a is None:
        return left * b
    return torch.addcmul(a * right, left, b)


@tangent("div.Tensor", "div.Scalar", keeps="arguments")
def div(call: Any, a: Tensor | None, b: Tensor | None = None) -> Any:
    """(ȧ − ḃ a / b) / b."""
    left, right = call.args
    if b is None:
        return a / right
    moved = -(left / right) * b
    return (moved if a is None else moved + a) / right


@tangent("neg.default")
def neg(call: Any, x: Tensor) -> Any:
    """−ẋ."""
    return -x


@tangent("pow.Tensor_Scalar", keeps="arguments")
def power(call: Any, x: Tensor, *_: Any) -> Any:
    """p xᵖ⁻¹ ẋ."""
    value, exponent = call.args
    if exponent == 0:
        return torch.zeros_like(x)
    return x * (exponent * value ** (exponent - 1))


@tangent("where.self", keeps="arguments")
def where(call: Any, _: Any, a: Tensor | None, b: Tensor | None) -> Any:
    """ȧ where the condition holds, ḃ elsewhere."""
    condition, left, right = call.args
    a = torch.zeros_like(left) if a is None else a
    return torch.where(condition, a, torch.zeros_like(right) if b is None else b)


@tangent("masked_fill.Scalar", "masked_fill.Tensor")
def masked_fill(call: Any, x: Tensor | None, _: Any = None, value: Tensor | None = None) -> Any:
    """Zero under the mask; the tangent of the filling value there, if it has one."""
    mask = call.args[1]
    if x is None:
        assert value is not None
        return _spread(call, torch.zeros_like(value).masked_fill(mask, value))
    return x.masked_fill(mask, 0) if value is None else x.masked_fill(mask, value)


def _spread(call: Any, tangent_: Tensor | None) -> Any:
    """A tangent of one argument, broadcast with the other, constant, argument."""
    shapes = [a.shape for a in call.args[:2] if isinstance(a, Tensor)]
    if tangent_ is None or not shapes:
        return tangent_
    shape = torch.broadcast_shapes(tangent_.shape, *shapes)
    return tangent_ if tangent_.shape == shape else tangent_.expand(shape).contiguous()
