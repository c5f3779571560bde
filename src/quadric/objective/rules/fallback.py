"""The rule of every operator without one: differentiate the single call by torch's own means."""

from __future__ import annotations

from typing import Any

import torch
import torch.autograd.forward_ad as forward_ad
from torch import Tensor


def by_forward_mode(call: Any, *tangents: Any) -> Any:
    """Forward-mode AD of one call; two reverse passes through it where it has no forward mode."""
    func = _functional(call.func)
    try:
        with forward_ad.dual_level():
            args = [_dual(a, t) for a, t in zip(call.args, tangents, strict=True)]
            out = func(*args, **call.kwargs)
            outputs = out if isinstance(out, (tuple, list)) else (out,)
            return tuple(forward_ad.unpack_dual(o).tangent if isinstance(o, Tensor) else None for o in outputs)
    except (NotImplementedError, RuntimeError) as error:
        if "forward" not in str(error).lower():
            raise
    return by_double_reverse(func, call.args, call.kwargs, tangents)


def by_double_reverse(func: Any, args: Any, kwargs: Any, tangents: Any) -> tuple[Tensor | None, ...]:
    """J v = ∂/∂u (Jᵀu · v): two reverse passes through one call."""
    with torch.enable_grad():
        flat: list[tuple[Tensor, Tensor]] = []

        def leaf(a: Any, t: Any) -> Any:
            if isinstance(a, (list, tuple)) and isinstance(t, list):
                return [leaf(x, y) for x, y in zip(a, t, strict=True)]
            if t is None:
                return a.detach() if isinstance(a, Tensor) else a
            flat.append((a.detach().requires_grad_(), t))
            return flat[-1][0]

        out = func(*[leaf(a, t) for a, t in zip(args, tangents, strict=True)], **kwargs)
        outputs = out if isinstance(out, (tuple, list)) else (out,)
        moving = [o for o in outputs if isinstance(o, Tensor) and o.requires_grad]
        dummies = [torch.zeros_like(o, requires_grad=True) for o in moving]
        pulled = torch.autograd.grad(moving, [x for x, _ in flat], dummies, create_graph=True, allow_unused=True)
        pairs = [(p, t) for p, (_, t) in zip(pulled, flat, strict=True) if p is not None and p.requires_grad]
        pushed = iter(
            torch.autograd.grad([p for p, _ in pairs], dummies, [t for _, t in pairs], allow_unused=True)
            if pairs
            else [None] * len(dummies)
        )
        return tuple(next(pushed) if isinstance(o, Tensor) and o.requires_grad else None for o in outputs)


def _dual(arg: Any, tangent: Any) -> Any:
    if isinstance(arg, (list, tuple)) and isinstance(tangent, list):
        return [_dual(a, t) for a, t in zip(arg, tangent, strict=True)]
    if tangent is None:
        return arg.detach() if isinstance(arg, Tensor) else arg
    return forward_ad.make_dual(arg.detach(), tangent)


def _functional(func: Any) -> Any:
    """A call that leaves its first argument as it is: in-place operators work on a copy."""
    arguments = func._schema.arguments
    if not arguments or arguments[0].alias_info is None or not arguments[0].alias_info.is_write:
        return func
    return lambda first, *rest, **kwargs: func(first.clone(), *rest, **kwargs)
