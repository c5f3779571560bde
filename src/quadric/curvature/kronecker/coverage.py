"""What each parameter got from K-FAC, and where its block lies among the parameters."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from quadric.core.space import Space
from quadric.curvature.kronecker.layers import Layer
from quadric.operators.selection import Selection


@dataclass(frozen=True)
class Covered:
    """One block: its parameters, its form ("kronecker", "dense" or "diagonal") and the reason for it."""

    parameters: tuple[str, ...]
    form: str
    reason: str


@dataclass(frozen=True)
class Coverage:
    """What every parameter got, block by block. `str(coverage)` is a table."""

    blocks: tuple[Covered, ...]

    def of(self, parameter: str) -> Covered:
        """The block of a parameter; raises KeyError for a name that is none."""
        for block in self.blocks:
            if parameter in block.parameters:
                return block
        raise KeyError(f"{parameter!r} is no parameter of this operator.")

    def __str__(self) -> str:
        rows = [(" + ".join(b.parameters), b.form, b.reason) for b in self.blocks]
        widths = [max(len(row[i]) for row in rows) for i in range(2)]
        return "\n".join(f"{a:<{widths[0]}}  {b:<{widths[1]}}  {c}" for a, b, c in rows)


_REASONS = {
    "linear": "linear layer",
    "convolution": "convolution, patches as inputs",
    "embedding": "embedding, how often each index occurs as inputs",
    "norm": "scale and shift of a norm, exact block",
}


def covered(layer: Layer, space: Space) -> Covered:
    """What a layer with a form of its own got."""
    form = "dense" if layer.kind == "norm" else "kronecker"
    shared = f", shared by {len(layer.modules)} modules" if len(layer.modules) > 1 else ""
    return Covered(tuple(space.names[p] for p in layer.positions), form, _REASONS[layer.kind] + shared)


def place(layer: Layer, space: Space) -> Selection:
    """Where a layer's block lies: row by row of [W | b] for a weight with a bias, one after the other for a norm."""
    if layer.kind == "norm" or layer.weight is None or layer.bias is None:
        return Selection.of_tensors(space, layer.positions)
    shape, offsets = space.shapes[layer.weight], space.offsets
    outs, ins = shape[0], shape[1:].numel()
    weight = torch.arange(offsets[layer.weight], offsets[layer.weight] + outs * ins, device=space.device)
    bias = torch.arange(offsets[layer.bias], offsets[layer.bias] + outs, device=space.device)
    index = torch.cat([weight.view(outs, ins), bias.view(outs, 1)], 1)
    names = f"[{space.names[layer.weight]} | {space.names[layer.bias]}]"
    inner = Space((names,), (index.shape,), (space.dtype,), space.device, (layer.name,), space.group)
    return Selection(inner, index.reshape(-1))
