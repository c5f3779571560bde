"""Explicit random streams: one seed gives independent streams for weights, order and noise."""

from __future__ import annotations

import zlib
from collections.abc import Callable

import numpy as np
import torch
from torch import nn

from quadric.core.randomness import RandomState, replayed

CPU = torch.device("cpu")


def stream(seed: int, purpose: str, index: int = 0) -> torch.Generator:
    """A CPU generator that depends on `seed`, `purpose` and `index` alone, and on no other stream."""
    words = np.random.SeedSequence([seed, zlib.crc32(purpose.encode()), index]).generate_state(2, np.uint32)
    return torch.Generator().manual_seed(int(words[0]) << 32 | int(words[1]))


def initialised(build: Callable[[], nn.Module], seed: int) -> nn.Module:
    """`build()` with torch's default initialisation drawn from `seed`; the global generator is left as it was."""
    with replayed(RandomState.seeded(stream(seed, "weights").initial_seed(), CPU)):
        return build()
