"""The state of random number generators, torch's global ones and a model's own: kept, replayed, and left as it was."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor, nn

OwnStates = tuple[tuple[torch.Generator, Tensor], ...]
"""Generators that the modules of a model hold, and a state of each."""


@dataclass(frozen=True)
class RandomState:
    """A snapshot of the generators that a model on `device` draws from: the CPU's, the device's, and its `own`.

    One made of a `seed` is the same for every model: `of_model` adds the model's own generators, with that seed.
    """

    device: torch.device
    cpu: Tensor
    accelerator: Tensor | None
    own: OwnStates = ()
    seed: int | None = None

    @classmethod
    def now(cls, device: torch.device, own: Iterable[torch.Generator] = ()) -> RandomState:
        """The present state."""
        cuda = torch.cuda.get_rng_state(device) if device.type == "cuda" else None
        return cls(device, torch.get_rng_state(), cuda, tuple((each, each.get_state()) for each in own))

    @classmethod
    def seeded(cls, seed: Seed, device: torch.device) -> RandomState:
        """The state that `torch.manual_seed(seed)` would lead to; a state is its own."""
        return seed if isinstance(seed, RandomState) else _seeded(seed, device)

    def of_model(self, model: nn.Module) -> RandomState:
        """The state with the model's own generators."""
        generators = own_generators(model)
        if self.seed is None or not generators:
            return self
        seeded = (torch.Generator(each.device).manual_seed(self.seed).get_state() for each in generators)
        return replace(self, own=tuple(zip(generators, seeded, strict=True)))

    def drawn_from(self) -> bool:
        """Whether any of its generators is elsewhere by now."""
        now = RandomState.now(self.device, [each for each, _ in self.own])
        pairs = [(self.cpu, now.cpu), *((a, b) for (_, a), (_, b) in zip(self.own, now.own, strict=True))]
        if self.accelerator is not None and now.accelerator is not None:
            pairs.append((self.accelerator, now.accelerator))
        return not all(torch.equal(a, b) for a, b in pairs)

    def restore(self) -> None:
        """Make this the present state."""
        torch.set_rng_state(self.cpu)
        if self.accelerator is not None:
            torch.cuda.set_rng_state(self.accelerator, self.device)
        for generator, state in self.own:
            generator.set_state(state)


Seed = int | RandomState
"""What fixes a model's random numbers: a number, or the state that a step of training began with."""


def own_generators(model: nn.Module) -> list[torch.Generator]:
    """The generators among the attributes of the model's modules."""
    held = (value for module in model.modules() for value in vars(module).values())
    return [value for value in held if isinstance(value, torch.Generator)]


@lru_cache(maxsize=64)
def _seeded(seed: int, device: torch.device) -> RandomState:
    cpu = torch.Generator().manual_seed(seed).get_state()
    cuda = torch.Generator(device).manual_seed(seed).get_state() if device.type == "cuda" else None
    return RandomState(device, cpu, cuda, seed=seed)


@contextmanager
def replayed(state: RandomState) -> Iterator[None]:
    """Draw from `state` within the block, then go on from where the generators were."""
    outside = RandomState.now(state.device, [generator for generator, _ in state.own])
    state.restore()
    try:
        yield
    finally:
        outside.restore()


@contextmanager
def generators_kept() -> Iterator[None]:
    """After the block Python's and NumPy's global generators are where they were, for models that draw from those."""
    python, array = random.getstate(), np.random.get_state()
    try:
        yield
    finally:
        random.setstate(python)
        np.random.set_state(array)
