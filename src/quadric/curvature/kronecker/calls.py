"""The calls of a plan's modules, recorded while the model runs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import GradientEdge, get_gradient_edge

from quadric.curvature.kronecker.attention import Projection, projections
from quadric.curvature.kronecker.layers import Layer, Plan, Use
from quadric.objective.isolation import as_written


@dataclass(frozen=True, eq=False)
class Call:
    """A module's input x, and where the gradients in its output and (if any flows there) its input are to be had.

    Edges are taken at once: what follows may change the output in place.
    """

    layer: Layer
    module: nn.Module
    output: GradientEdge
    source: GradientEdge | None
    x: Tensor | Projection
    """The input, or a projection of an attention, which knows where its input is."""
    version: int = 0

    @property
    def intact(self) -> bool:
        """Whether x is still what the module saw; torch itself checks what autograd saved."""
        return isinstance(self.x, Projection) or self.x._version == self.version

    def use(self, slope: Tensor) -> Use:
        """The call with the gradient in its output."""
        if isinstance(self.x, Tensor):
            return Use(self.module, self.x.detach(), slope)
        by_example = self.x.rows.by_example
        return Use(self.module, by_example(self.x.x()), by_example(slope))


@contextmanager
def recorded(plan: Plan) -> Iterator[list[Call]]:
    """Within the block calls of the plan's modules are appended to the list."""
    calls: list[Call] = []
    handles = []
    within: dict[nn.MultiheadAttention, list[tuple[nn.Module, Layer, Tensor]]] = {}
    for layer in plan.layers:
        for module in layer.modules:
            attention = plan.attentions.get(module)
            if attention is not None:
                weight = module._parameters.get(layer.role)
                if weight is not None:
                    within.setdefault(attention, []).append((module, layer, weight))
                continue

            def record(
                module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any, layer: Layer = layer
            ) -> None:
                x = args[0] if args else kwargs.get("input")
                if isinstance(output, Tensor) and output.requires_grad and isinstance(x, Tensor) and not _reversing():
                    source = get_gradient_edge(x) if x.requires_grad else None
                    calls.append(Call(layer, module, get_gradient_edge(output), source, x, x._version))

            handles.append(module.register_forward_hook(record, with_kwargs=True))
    for attention, held in within.items():

        def look(
            module: Any,
            args: tuple[Any, ...],
            kwargs: dict[str, Any],
            output: Any,
            held: list[tuple[nn.Module, Layer, Tensor]] = held,
        ) -> None:
            if _reversing():
                return
            query = args[0] if args else kwargs["query"]
            weights = [weight for _, _, weight in held]
            for met in projections(module, query, (*args, *kwargs.values()), output[0], weights):
                calls.extend(
                    Call(layer, holder, met.output, met.source, met)
                    for holder, layer, weight in held
                    if weight is met.weight
                )

        handles.append(attention.register_forward_hook(look, with_kwargs=True))
    try:
        with as_written():  # what was compiled without the hooks would pass them by
            yield calls
    finally:
        for handle in handles:
            handle.remove()


def _reversing() -> bool:
    """Whether a reverse pass is under way, in which checkpointed blocks run again: those calls are known already."""
    return bool(torch._C._current_graph_task_id() != -1)
