"""Operators that are linear in one tensor (or one list of tensors): they apply themselves to the tangent."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from quadric.objective.rules.registry import tangent


@tangent(
    *("clone.default", "_to_copy.default", "_unsafe_view.default", "contiguous.default", "alias_copy.default"),
    *("sum.default", "sum.dim_IntList", "mean.default", "mean.dim", "cumsum.default"),
    *("index_select.default", "index.Tensor", "gather.default", "repeat.default"),
    *("reflection_pad2d.default", "flip.default"),
    *("roll.default", "tril.default", "triu.default", "unsafe_split.Tensor"),
    *("avg_pool2d.default", "avg_pool3d.default", "_adaptive_avg_pool2d.default"),
    *("upsample_nearest2d.default", "upsample_bilinear2d.default", "im2col.default", "col2im.default"),
    *("pixel_shuffle.default", "pixel_unshuffle.default"),
)
def linear_in_first(call: Any, x: Tensor, *_: Any) -> Any:
    """F(ẋ) for a linear F."""
    return call.func(x, *call.args[1:], **call.kwargs)


@tangent("constant_pad_nd.default")
def padded(call: Any, x: Tensor, *_: Any) -> Any:
    """Padded with zeros, whatever the value is padded with."""
    return call.func(x, call.args[1], 0)


@tangent("embedding.default")
def embedding(call: Any, weight: Tensor, *_: Any) -> Any:
    """Rows of ẇ; the padding row is a constant, as autograd has it."""
    index, padding = call.args[1], call.args[2] if len(call.args) > 2 else -1
    out = call.func(weight, index)
    return out.masked_fill_((index == padding).unsqueeze(-1), 0) if padding >= 0 else out


@tangent("copy.default")
def copy(call: Any, x: Tensor | None, source: Tensor | None, *_: Any) -> Any:
    """What is copied in replaces what was there."""
    if source is None:
        return None
    return source.to(call.args[0].dtype).expand(call.args[0].shape).clone() if call.args[0] is not None else source


@tangent("zero.default")
def constant(call: Any, *_: Any) -> Any:
    """A constant has no tangent."""
    return None


@tangent("cat.default", "stack.default", keeps="arguments")
def joined(call: Any, tensors: list[Tensor | None], *_: Any) -> Any:
    """The tangents joined, with zeros where a part is constant."""
    parts = [torch.zeros_like(p) if t is None else t for p, t in zip(call.args[0], tensors, strict=True)]
    return call.func(parts, *call.args[1:], **call.kwargs)
