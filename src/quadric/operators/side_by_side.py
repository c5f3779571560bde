"""A weight and a bias as the rows of one matrix [W | b]."""

from __future__ import annotations

from functools import cached_property

import torch
from torch import Tensor

from quadric.core.space import Space
from quadric.operators.selection import Selection


class SideBySide(Selection):
    """The coordinates of [W | b], row by row, for a weight W [out, …] and a bias b [out] at two positions of a space.

    Vectors are taken and written by two slices each; the list of indices is made where somebody asks for it.
    """

    def __init__(self, space: Space, weight: int, bias: int) -> None:
        shape, offsets = space.shapes[weight], space.offsets
        self.outs, self.ins = shape[0], shape[1:].numel()
        self.weight = slice(offsets[weight], offsets[weight + 1])
        self.bias = slice(offsets[bias], offsets[bias + 1])
        name = f"[{space.names[weight]} | {space.names[bias]}]"
        layers = space.layers[weight : weight + 1]
        shapes = (torch.Size([self.outs, self.ins + 1]),)
        self.space = Space((name,), shapes, (space.dtype,), space.device, layers, space.group)

    @cached_property
    def _index(self) -> Tensor:  # type: ignore[override]
        weight = torch.arange(self.weight.start, self.weight.stop, device=self.space.device)
        bias = torch.arange(self.bias.start, self.bias.stop, device=self.space.device)
        return torch.cat([weight.view(self.outs, self.ins), bias.view(self.outs, 1)], 1).reshape(-1)

    @property
    def slices(self) -> tuple[slice, ...]:
        """That of W and that of b."""
        return self.weight, self.bias

    def take(self, x: Tensor) -> Tensor:
        """The selected rows of x [n, k] or entries of x [n]."""
        weight = x[self.weight].reshape(self.outs, self.ins, *x.shape[1:])
        bias = x[self.bias].reshape(self.outs, 1, *x.shape[1:])
        return torch.cat([weight, bias], 1).flatten(0, 1)

    def write(self, y: Tensor, out: Tensor) -> None:
        """Put rows y [m, k] or entries y [m] in their places in `out`."""
        rows = y.reshape(self.outs, self.ins + 1, *y.shape[1:])
        out[self.weight].view(self.outs, self.ins, *y.shape[1:]).copy_(rows[:, :-1])
        out[self.bias] = rows[:, -1]
