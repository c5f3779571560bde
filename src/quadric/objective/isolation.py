"""Evaluating a model again without a trace: the same random numbers, buffers and generators left as they were."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from quadric.core.randomness import RandomState, own_generators, replayed


@dataclass(frozen=True)
class Snapshot:
    """Random states and buffers as they were at one moment: what a function evaluated again must start from."""

    random: RandomState
    buffers: dict[int, tuple[Tensor, Tensor]]
    """id → (buffer, copy of its value)."""

    @classmethod
    def of(cls, model: nn.Module, device: torch.device) -> Snapshot:
        """Random states and the buffers of `model` as they are now."""
        random = RandomState.now(device, own_generators(model))
        return cls(random, {id(b): (b, b.detach().clone()) for b in model.buffers()})

    @contextmanager
    def replay(self, model: nn.Module) -> Iterator[None]:
        """Within the block the model draws the snapshot's random numbers and works on copies of its buffers."""
        copies = {key: value.clone() for key, (_, value) in self.buffers.items()}
        with replayed(self.random), _substituted(model, copies):
            yield

    def restore_buffers(self) -> None:
        """Put the values back into the buffers. Through `.data`, so that a graph that saved them stays usable."""
        for buffer, value in self.buffers.values():
            buffer.data.copy_(value)


@contextmanager
def untouched(model: nn.Module, random: RandomState) -> Iterator[None]:
    """Within the block the model draws from `random`, its own generators too, and works on copies of its buffers."""
    copies = {id(b): b.detach().clone() for b in model.buffers()}
    with replayed(random.of_model(model)), _substituted(model, copies):
        yield


@contextmanager
def _substituted(model: nn.Module, copies: dict[int, Tensor]) -> Iterator[None]:
    """The model with other tensors in place of its buffers; buffers that came since are copied on the spot."""
    places: list[tuple[nn.Module, dict[str, Tensor | None]]] = []
    for module in model.modules() if copies else ():
        if module._buffers:
            places.append((module, dict(module._buffers)))
    try:
        for module, buffers in places:
            for name, buffer in buffers.items():
                if buffer is not None:
                    module._buffers[name] = copies.get(id(buffer), buffer)
        yield
    finally:
        for module, buffers in places:
            module._buffers.clear()
            module._buffers.update(buffers)


def twice_differentiable() -> AbstractContextManager[None]:
    """Within the block attention takes the kernel that can be differentiated twice."""
    return sdpa_kernel(SDPBackend.MATH)


def as_written() -> AbstractContextManager[None]:
    """Within the block what `torch.compile` has made runs as it was written: compiled code has no second derivative."""
    if "torch._dynamo" not in sys.modules:
        return nullcontext()
    stance: AbstractContextManager[None] = torch.compiler.set_stance("force_eager")
    return stance
