"""Whether the recorded calls of a layer account for its whole gradient, read off autograd's graph."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import Node
from torch.nn.modules.module import _global_forward_hooks, _global_forward_pre_hooks

from quadric.curvature.kronecker.calls import Call
from quadric.curvature.kronecker.layers import Block, Layer, Plan, Use, sides

_PLAIN = {
    *(nn.Linear.forward, nn.Embedding.forward, nn.Conv1d.forward, nn.Conv2d.forward, nn.Conv3d.forward),
    *(nn.LayerNorm.forward, nn.GroupNorm.forward, nn.RMSNorm.forward, nn.modules.batchnorm._BatchNorm.forward),
    *(nn.modules.instancenorm._InstanceNorm.forward, nn.MultiheadAttention.forward),
}


def altered(module: nn.Module) -> bool:
    """Whether a module may do something else than its class in torch says: its graph alone doesn't tell what."""
    return bool(
        type(module).forward not in _PLAIN
        or "forward" in vars(module)
        or module._forward_hooks
        or module._forward_pre_hooks
        or _global_forward_hooks
        or _global_forward_pre_hooks
    )


def used_outside(outputs: Tensor, calls: Sequence[Call], plan: Plan, parameters: Sequence[Tensor]) -> set[Layer]:
    """The layers whose parameters the outputs depend on other than through calls of their own modules.

    From the outputs down, a recorded call is stepped over: on to the gradient of its input, while what lies between its
    output and its input is searched for parameters of other layers. Cost: a walk over the graph's nodes.
    """
    owners: dict[int, set[Layer]] = {}
    for layer in plan.layers:
        for p in layer.positions:
            owners.setdefault(id(parameters[p]), set()).add(layer)
    by_node: dict[Node, list[Call]] = {}
    for call in calls:
        by_node.setdefault(call.output.node, []).append(call)
    found: set[Layer] = set()
    seen: set[Node] = set()
    open_ = [] if outputs.grad_fn is None else [outputs.grad_fn]
    while open_:
        node = open_.pop()
        if node in seen:
            continue
        seen.add(node)
        found |= _owned(node, owners)
        at = by_node.get(node)
        if at is None:
            open_ += [after for after, _ in node.next_functions if after is not None]
        elif not _one_call(at) or (at[0].source is not None and at[0].source.node is node):
            found.update(call.layer for call in at)  # calls that return each other's output or their own input
        else:
            source, called = at[0].source, {call.layer for call in at}
            inside = [_owned(n, owners) for n in _between(node, None if source is None else source.node)]
            found.update(layer for owned in inside if not owned & called for layer in owned)
            if source is not None:
                open_.append(source.node)
    return found


def _one_call(calls: Sequence[Call]) -> bool:
    """Whether these are one call of a module, whose weight and bias may belong to different layers."""
    return len({call.module for call in calls}) == 1 and len({call.layer for call in calls}) == len(calls)


def _between(node: Node, source: Node | None) -> set[Node]:
    """The nodes that a call's output depends on before its input."""
    inside: set[Node] = set()
    open_ = [node]
    while open_:
        for after, _ in open_.pop().next_functions:
            if after is not None and after is not source and after not in inside:
                inside.add(after)
                open_.append(after)
    return inside


def _owned(node: Node, owners: dict[int, set[Layer]]) -> set[Layer]:
    """The layers whose parameter a node accumulates the gradient of."""
    variable: Any = getattr(node, "variable", None)
    return set() if variable is None else owners.get(id(variable), set())


def adds_up(
    block: Block,
    uses: Mapping[Layer, Sequence[Use]],
    parameters: Sequence[Tensor],
    gradients: dict[int, Tensor],
    dtype: torch.dtype,
) -> bool:
    """Whether G = Σ g aᵀ over the calls is the gradient that autograd finds, by pᵀ G q with random p and q."""
    first = gradients[block.positions[0]]
    generator = torch.Generator(first.device).manual_seed(0)

    def probe(size: int) -> Tensor:
        return torch.randn(size, dtype=dtype, device=first.device, generator=generator)

    outs, width = (first.numel(), 1) if block.kind == "norm" else (first.shape[0], first[0].numel())
    p, q = probe(outs), probe(width)
    weight = None if block.weight is None else gradients[block.weight].to(dtype).reshape(outs, width)
    bias = None if block.bias is None else gradients[block.bias].to(dtype).reshape(-1)
    want = torch.zeros_like(p[0])
    if weight is not None:
        want += p @ (weight @ q)
    if bias is not None:
        want += p @ bias
    got, scale = torch.zeros_like(p[0]), abs(want)
    for layer, (a, g) in ((own, sides(own, use, dtype)) for own in block.layers for use in uses[own]):
        if layer.kind == "embedding":
            terms = (g @ q) * p[a]
        elif layer.kind == "norm":
            hat = torch.zeros_like(a) if weight is None else a * q
            terms = g * (hat if bias is None else hat + 1) * p
        else:
            ones = q.new_ones(1)
            terms = (g @ p) * (a @ torch.cat(([] if weight is None else [q]) + ([] if layer.bias is None else [ones])))
        got += terms.sum()
        scale += terms.abs().sum()
    eps = torch.finfo(parameters[block.positions[0]].dtype).eps
    return bool(abs(got - want) <= eps**0.5 * scale)
