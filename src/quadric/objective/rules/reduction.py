"""Reductions with a fused Jacobian product: softmax and its logarithm."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from quadric.objective.rules.registry import aten, tangent


@tangent("_softmax.default", "_safe_softmax.default", keeps="output")
def softmax(call: Any, x: Tensor, *_: Any) -> Any:
    """p ∘ (ẋ − pᵀẋ): the Jacobian is symmetric, so this is the backward kernel."""
    return aten._softmax_backward_data(x.to(call.output.dtype), call.output, call.args[1], call.output.dtype)


@tangent("_log_softmax.default", keeps="output")
def log_softmax(call: Any, x: Tensor, *_: Any) -> Any:
    """ẋ − pᵀẋ."""
    dim = call.args[1]
    return x - (call.output.exp() * x).sum(dim, keepdim=True)
