"""One pass of tangents along a tape: where each tensor's tangent is, and how views and in-place changes act on it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

if TYPE_CHECKING:
    from quadric.objective.tape import Call


@dataclass(slots=True)
class View:
    """How to read a view's tangent off the tangent of its base: the base's slot, and the geometry relative to it."""

    slot: int
    size: torch.Size
    stride: tuple[int, ...]
    offset: int


@dataclass(slots=True)
class Layout:
    """The layout of a base in memory, which its tangent must share to be read through a view."""

    size: torch.Size
    stride: tuple[int, ...]
    dtype: torch.dtype
    device: torch.device


class Walk:
    """The tangents by slot, as they stand after the calls walked so far; a slot without one is zero."""

    def __init__(self, layouts: dict[int, Layout]) -> None:
        self.layouts = layouts
        self.values: dict[int, Tensor] = {}
        self.owned: set[int] = set()
        """Slots whose tangent was made by writing through views: nobody else holds it, so it may be written again."""

    def step(self, call: Call) -> None:
        """Carry the tangents over one call."""
        tangents: list[Any] = []
        moving = False
        for read in call.reads:
            tangent = None if read is None else self._read_list(read) if isinstance(read, list) else self.read(read)
            moving = moving or tangent is not None
            tangents.append(tangent)
        if not moving:
            return
        results = call.rule.apply(call, *tangents)
        if results is None or isinstance(results, Tensor):
            results = (results,)
        for slot in call.frees:
            self.values.pop(slot, None)
        if call.target is not None:
            self._write(call.target, _like(results[0], call.made[0]))
            return
        for write, made, result in zip(call.writes, call.made, results, strict=False):
            if write is not None and result is not None:
                result = _like(result, made)
                aliased = self.owned and any(result is t for t in tangents)
                self.values[write] = result.clone() if aliased else result

    def read(self, read: int | View) -> Tensor | None:
        """The tangent of a tensor, None for zero."""
        if isinstance(read, int):
            return self.values.get(read)
        value = self.values.get(read.slot)
        if value is None:
            return None
        layout = self.layouts[read.slot]
        if value.stride() != layout.stride:
            value = self.values[read.slot] = _laid_out(value, layout)
        return value.as_strided(read.size, read.stride, value.storage_offset() + read.offset)

    def _read_list(self, reads: list[int | View | None]) -> list[Tensor | None] | None:
        tangents = [None if r is None else self.read(r) for r in reads]
        return None if all(t is None for t in tangents) else tangents

    def _write(self, target: int | View, result: Tensor | None) -> None:
        """Store the tangent of a tensor changed in place; None is zero. Through a view, the rest of its base stays."""
        if isinstance(target, int):
            self.owned.discard(target)
            if result is None:
                self.values.pop(target, None)
            else:
                self.values[target] = result
            return
        layout = self.layouts[target.slot]
        value = self.values.get(target.slot)
        if value is None:
            value = torch.empty_strided(layout.size, layout.stride, dtype=layout.dtype, device=layout.device).zero_()
        elif target.slot not in self.owned:
            value = _laid_out(value, layout)
        part = value.as_strided(target.size, target.stride, value.storage_offset() + target.offset)
        part.zero_() if result is None else part.copy_(result)
        self.values[target.slot] = value
        self.owned.add(target.slot)


def _like(result: Any, made: tuple[torch.Size, torch.dtype] | None) -> Any:
    """A rule's result with the shape and dtype of the value: constants broadcast and promote what moves."""
    if result is None or made is None:
        return result
    shape, dtype = made
    if result.dtype is not dtype:
        result = result.to(dtype)
    return result if result.shape == shape else result.expand(shape).contiguous()


def _laid_out(value: Tensor, layout: Layout) -> Tensor:
    """A copy of a tangent with the strides of its value."""
    return torch.empty_strided(layout.size, layout.stride, dtype=value.dtype, device=value.device).copy_(value)
