"""Random vectors, from an explicit seed and the same on every device."""

from __future__ import annotations

import torch
from torch import Tensor

from quadric.core.space import Space


def gaussian(space: Space, count: int, generator: torch.Generator) -> Tensor:
    """Independent N(0, 1) entries [n, count], drawn on the CPU in float64 and moved."""
    drawn = torch.randn(space.numel, count, generator=generator, dtype=torch.float64)
    return drawn.to(space.device, space.dtype)


def signs(space: Space, count: int, generator: torch.Generator) -> Tensor:
    """Independent ±1 entries [n, count]."""
    drawn = torch.randint(0, 2, (space.numel, count), generator=generator)
    return drawn.mul(2).sub(1).to(space.device, space.dtype)


def seeded(seed: int) -> torch.Generator:
    """A generator of one's own."""
    return torch.Generator().manual_seed(seed)
