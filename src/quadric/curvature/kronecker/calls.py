"""The calls of a plan's modules, recorded while the model runs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn
from torch.autograd.graph import GradientEdge, get_gradient_edge

from quadric.curvature.kronecker.attention import Rows, projections
from quadric.curvature.kronecker.layers import Layer, Plan, Use
from quadric.objective.isolation import as_written


@dataclass(frozen=True, eq=False)
class Call:
    """A module's input x, and where the gradients in its output and (if any flows there) its input are to be had.

    Edges are taken at once: what follows may change the output in place.
    """

    layer: Layer
    module: nn.Module
    x: Tensor
    version: int
    output: GradientEdge
    source: GradientEdge | None
    rows: Rows | None = None
    """How the rows of x and of the output lie, where they are a projection's of an attention."""

    @property
    def intact(self) -> bool:
        """Whether x is still what the module saw."""
        return self.x._version == self.version

    def use(self, slope: Tensor) -> Use:
        """The call with the gradient in its output."""
        x = self.x.detach()
        if self.rows is not None:
            x, slope = self.rows.by_example(x), self.rows.by_example(slope)
        return Use(self.module, x, slope)


@contextmanager
def recorded(plan: Plan) -> Iterator[list[Call]]:
    """Within the block calls of the plan's modules are appended to the list."""
    calls: list[Call] = []
    handles = []
    within: dict[nn.MultiheadAttention, dict[nn.Module, Layer]] = {}
    for layer in plan.layers:
        for module in layer.modules:
            attention = plan.attentions.get(module)
            if attention is not None:
                within.setdefault(attention, {})[module] = layer
                continue

            def record(
                module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any, layer: Layer = layer
            ) -> None:
                x = args[0] if args else kwargs.get("input")
                if isinstance(output, Tensor) and output.requires_grad and isinstance(x, Tensor):
                    source = get_gradient_edge(x) if x.requires_grad else None
                    calls.append(Call(layer, module, x, x._version, get_gradient_edge(output), source))

            handles.append(module.register_forward_hook(record, with_kwargs=True))
    for attention, layers in within.items():

        def look(
            module: Any,
            args: tuple[Any, ...],
            kwargs: dict[str, Any],
            output: Any,
            layers: dict[nn.Module, Layer] = layers,
        ) -> None:
            inputs = (*args[:3], *(kwargs[name] for name in ("query", "key", "value") if name in kwargs))
            for holder, x, edge, source, rows in projections(module, inputs, output[0], layers):
                calls.append(Call(layers[holder], holder, x, x._version, edge, source, rows))

        handles.append(attention.register_forward_hook(look, with_kwargs=True))
    try:
        with as_written():  # what was compiled without the hooks would pass them by
            yield calls
    finally:
        for handle in handles:
            handle.remove()
