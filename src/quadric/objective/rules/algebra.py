"""Matrix products: bilinear, so two calls with accumulation in place."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from quadric.objective.rules.registry import aten, tangent


@tangent("mm.default", "mv.default", "bmm.default", "dot.default", keeps="others")
def product(call: Any, a: Tensor | None, b: Tensor | None) -> Any:
    """d(AB) = Ȧ B + A Ḃ."""
    left, right = call.args
    if a is None:
        return call.func(left, b)
    if b is None:
        return call.func(a, right)
    out = call.func(left, b)
    if call.func is aten.mm.default:
        return out.addmm_(a, right)
    if call.func is aten.bmm.default:
        return out.baddbmm_(a, right)
    return out.add_(call.func(a, right))


@tangent("addmm.default", "baddbmm.default", keeps="others")
def biased_product(call: Any, c: Tensor | None, a: Tensor | None, b: Tensor | None) -> Any:
    """d(β C + α AB) = β Ċ + α (Ȧ B + A Ḃ)."""
    _, left, right = call.args
    name = str(call.func.name()).removeprefix("aten::").partition(".")[0].rstrip("_")
    add, add_ = getattr(torch, name), getattr(Tensor, name + "_")
    alpha, beta = call.kwargs.get("alpha", 1), call.kwargs.get("beta", 1)
    products = [(x, y) for x, y in ((left, b), (a, right)) if x is not None and y is not None]
    if not products:
        assert c is not None
        return torch.add(torch.zeros_like(left @ right), c, alpha=beta)
    first, *rest = products
    out = (
        add(first[0].new_zeros(()), *first, beta=0, alpha=alpha)
        if c is None
        else add(c, *first, beta=beta, alpha=alpha)
    )
    for x, y in rest:
        out = add_(out, x, y, alpha=alpha)
    return out


@tangent("linear.default", keeps="others")
def linear(call: Any, x: Tensor | None, w: Tensor | None, b: Tensor | None = None) -> Any:
    """d(x Wᵀ + b) = ẋ Wᵀ + x Ẇᵀ + ḃ; an operator of its own on some backends."""
    value, weight = call.args[0], call.args[1]
    if x is None and w is None:
        assert b is not None
        return torch.zeros_like(aten.linear(value, weight)).add_(b)
    if x is None:
        return aten.linear(value, w, b)
    moved = aten.linear(x, weight, b if w is None else None)
    return moved if w is None else moved.add_(aten.linear(value, w, b))
