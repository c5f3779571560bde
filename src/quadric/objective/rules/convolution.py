"""Convolution: bilinear in input and weight."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from quadric.objective.rules.registry import aten, tangent


@tangent("convolution.default", "convolution_overrideable.default", keeps="others")
def convolution(call: Any, x: Tensor | None, w: Tensor | None, b: Tensor | None, *_: Any) -> Any:
    """d(w * x + b) = ẇ * x + w * ẋ + ḃ."""
    value, weight, _bias, *geometry = call.args
    if x is None and w is None:
        assert b is not None
        plain = aten.convolution(value, weight, None, *geometry)
        return torch.zeros_like(plain).add_(b.view(-1, *[1] * (plain.dim() - 2)))
    out = None if w is None else aten.convolution(value, w, b, *geometry)
    if x is not None:
        moved = aten.convolution(x, weight, b if w is None else None, *geometry)
        out = moved if out is None else out.add_(moved)
    return out
