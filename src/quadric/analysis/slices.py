"""The loss along lines and planes through the present parameters."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from quadric.core.progress import Progress, Reporter
from quadric.core.saved import Saved
from quadric.linalg.probes import seeded
from quadric.objective.objective import Objective


@dataclass(frozen=True)
class LossSlice(Saved):
    """f(w + a u) as `losses` [points], or f(w + a u + b v) as [points, points] with a by rows, b by columns.

    `coordinates` [points] are the values of a, and of b. `directions` [n, 1 or 2] are u and v as they were used.
    """

    coordinates: Tensor
    losses: Tensor
    directions: Tensor


def filter_normalized(objective: Objective, count: int = 1, *, seed: int = 0) -> Tensor:
    """`count` random directions [n, count], each filter of which is as long as the same filter of the parameters.

    A filter is an entry of the first dimension of a weight. Parameters of one dimension (biases, scales) stay put.
    Reference: Li, Xu, Taylor, Studer and Goldstein (2018), Visualizing the loss landscape of neural nets, section 4.
    """
    if count < 1:
        raise ValueError(f"Expected a count of at least 1, got {count!r}.")
    generator, columns = seeded(seed), []
    for _ in range(count):
        parts = []
        for p in objective.parameters:
            drawn = torch.randn(p.shape, generator=generator, dtype=torch.float64).to(p.device, p.dtype)
            if p.dim() < 2:
                parts.append(torch.zeros_like(drawn))
                continue
            lengths = p.detach().flatten(1).norm(dim=1), drawn.flatten(1).norm(dim=1)
            factor = lengths[0] / lengths[1].clamp_min(torch.finfo(p.dtype).tiny)
            parts.append(drawn * factor.view(-1, *(1,) * (p.dim() - 1)))
        columns.append(objective.space.flatten(parts))
    return torch.stack(columns, dim=1)


def loss_slice(
    objective: Objective,
    data: Any,
    directions: Tensor,
    *,
    radius: float = 1.0,
    points: int = 21,
    seed: int = 0,
    progress: Progress | None = None,
) -> LossSlice:
    """The loss over `data` on a grid of `points` per direction, from −radius to radius.

    `directions` is one [n] or [n, 1], or two [n, 2]: eigenvectors from `eigsh(...).eigenvectors`, or random ones from
    `filter_normalized`. They are used as they are, not normalised. Parameters are put back bit for bit; buffers, mode
    and random state stay. Cost: points or points² evaluations. Raises ValueError where shapes don't fit, or radius or
    points are out of range.
    """
    space = objective.space
    space.check(directions)
    u = directions.unsqueeze(1) if directions.dim() == 1 else directions
    if u.shape[1] not in (1, 2):
        raise ValueError(f"Expected one or two directions, [n] or [n, 2], got {u.shape[1]}.")
    if not (radius > 0 and math.isfinite(radius)) or points < 2:
        raise ValueError(f"Expected a finite radius > 0 and at least 2 points, got {radius!r} and {points!r}.")
    coordinates = torch.linspace(-radius, radius, points, dtype=torch.float64)
    places = torch.cartesian_prod(*[coordinates] * u.shape[1]).view(-1, u.shape[1])
    losses = []
    with Reporter(progress, "loss slice") as reporter, _restored(objective):
        centre = space.flatten([p.detach() for p in objective.parameters])
        for i, place in enumerate(places):
            _put(objective, centre + u @ place.to(u))
            losses.append(objective.evaluate(data, seed))
            reporter.report(f"{i + 1} of {len(places)} points")
    return LossSlice(coordinates, torch.tensor(losses, dtype=torch.float64).view([points] * u.shape[1]), u.clone())


def _put(objective: Objective, w: Tensor) -> None:
    with torch.no_grad():
        for p, value in zip(objective.parameters, objective.space.unflatten(w), strict=True):
            p.copy_(value)


@contextmanager
def _restored(objective: Objective) -> Iterator[None]:
    """Put the parameters back at the end, bit for bit."""
    saved = [p.detach().clone() for p in objective.parameters]
    try:
        yield
    finally:
        with torch.no_grad():
            for p, value in zip(objective.parameters, saved, strict=True):
                p.copy_(value)
