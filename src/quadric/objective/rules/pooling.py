"""Max-pooling: the tangent is read where the maximum was found."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from quadric.objective.rules.registry import tangent


@tangent("max_pool2d_with_indices.default", "adaptive_max_pool2d.default", keeps="output")
def max_pool(call: Any, x: Tensor, *_: Any) -> Any:
    """ẋ at the flat spatial index of each window's maximum."""
    index = call.outputs[1]
    flat = x.flatten(-2).gather(-1, index.flatten(-2))
    return flat.view(index.shape), None


@tangent("max.dim", "topk.default", "sort.default", "sort.stable", "median.dim", keeps="output")
def selected(call: Any, x: Tensor, *_: Any) -> Any:
    """ẋ at the chosen indices along a dimension."""
    index = call.outputs[1]
    name = str(call.func.name())
    if "topk" in name:
        dim = call.args[2] if len(call.args) > 2 else -1
    elif "sort" in name:
        dim = call.kwargs.get("dim", call.args[1] if len(call.args) > 1 and "stable" not in name else -1)
    else:
        dim = call.args[1]
        if len(call.args) < 3 or not call.args[2]:
            return x.gather(dim, index.unsqueeze(dim)).squeeze(dim), None
    return torch.gather(x, dim, index), None
