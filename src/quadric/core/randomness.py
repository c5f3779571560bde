"""The state of random number generators, torch's global ones and a model's own: kept, replayed, and left as it was."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class RandomState:
    """A snapshot of the global generators that a model on `device` draws from (the CPU's, and the device's own)."""

    device: torch.device
    cpu: Tensor
    accelerator: Tensor | None

    @classmethod
    def now(cls, device: torch.device) -> RandomState:
        """The present state."""
        cuda = torch.cuda.get_rng_state(device) if device.type == "cuda" else None
        return cls(device, torch.get_rng_state(), cuda)

    @classmethod
    def seeded(cls, seed: Seed, device: torch.device) -> RandomState:
        """The state that `torch.manual_seed(seed)` would lead to; a state is its own."""
        return seed if isinstance(seed, RandomState) else _seeded(seed, device)

    def same_as(self, other: RandomState) -> bool:
        """Whether both would draw the same numbers."""
        pairs = ((self.cpu, other.cpu), (self.accelerator, other.accelerator))
        return all(a is b or (a is not None and b is not None and torch.equal(a, b)) for a, b in pairs)

    def restore(self) -> None:
        """Make this the present state."""
        torch.set_rng_state(self.cpu)
        if self.accelerator is not None:
            torch.cuda.set_rng_state(self.accelerator, self.device)


Seed = int | RandomState
"""What fixes a model's random numbers: a number, or the state that a step of training began with."""


@lru_cache(maxsize=64)
def _seeded(seed: int, device: torch.device) -> RandomState:
    cpu = torch.Generator().manual_seed(seed).get_state()
    cuda = torch.Generator(device).manual_seed(seed).get_state() if device.type == "cuda" else None
    return RandomState(device, cpu, cuda)


@contextmanager
def replayed(state: RandomState) -> Iterator[None]:
    """Draw from `state` within the block, then go on from where the global generators were."""
    outside = RandomState.now(state.device)
    state.restore()
    try:
        yield
    finally:
        outside.restore()


OwnStates = list[tuple[torch.Generator, Tensor]]
"""Generators that the modules of a model hold, and a state of each."""


def own_states(model: nn.Module) -> OwnStates:
    """The generators among the modules' attributes, and their present states."""
    held = (value for module in model.modules() for value in vars(module).values())
    return [(value, value.get_state()) for value in held if isinstance(value, torch.Generator)]


def rewind(states: OwnStates) -> None:
    """Put the generators back to these states."""
    for generator, state in states:
        generator.set_state(state)


@contextmanager
def resumed(states: OwnStates) -> Iterator[None]:
    """The generators draw from these states within the block, then go on from where they were."""
    outside = [(generator, generator.get_state()) for generator, _ in states]
    rewind(states)
    try:
        yield
    finally:
        rewind(outside)


@contextmanager
def generators_kept() -> Iterator[None]:
    """After the block Python's and NumPy's global generators are where they were, for models that draw from those."""
    python, array = random.getstate(), np.random.get_state()
    try:
        yield
    finally:
        random.setstate(python)
        np.random.set_state(array)
