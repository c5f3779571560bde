"""Saddles to get away from: x² − y² and the monkey saddle x³ − 3xy², started near the origin.

The origin of x² − y² is a saddle by its second derivatives, of which one is negative: gradient descent leaves it,
Newton's method is drawn to it. At the monkey saddle's origin all second derivatives are zero, so that they do not
decide. Both functions are unbounded below: a run ends when it has left, and the larger the step the sooner that is.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor, nn

from quadric.problems import planes
from quadric.problems.problem import Batch, Draw, Instance, Problem, Target
from quadric.problems.randomness import stream

DEVIATION = 0.01
LEFT = -1.0


class Point(nn.Module):
    """The point itself, shape [1, 2]; the input is not used."""

    def __init__(self, start: Tensor) -> None:
        super().__init__()
        self.position = nn.Parameter(start)

    def forward(self, inputs: Tensor) -> Tensor:
        """(x, y)."""
        return self.position[None]


def saddle(plane: planes.Plane) -> Problem:
    """The problem of leaving the origin of `plane`; starts are drawn from N(0, 0.01²)."""

    def value(outputs: Tensor, targets: Tensor) -> Tensor:
        return plane.value(outputs[0])

    def open_(data_dir: Path | None, device: torch.device) -> Draw:
        nothing = torch.zeros(1, 1, dtype=torch.float64, device=device)

        def draw(seed: int) -> Instance:
            start = DEVIATION * torch.randn(2, generator=stream(seed, "start"), dtype=torch.float64)

            def epoch(index: int) -> Iterator[Batch]:
                yield nothing, nothing

            return Instance(Point(start.to(device)), value, epoch, 1, train=[(nothing, nothing)])

        return draw

    return Problem(
        name=plane.name,
        summary=plane.summary,
        rows=("S3.4", "S4.4"),
        target=Target("step_loss", LEFT, f"a value of {LEFT:g} is far from the origin's 0", stops=True),
        batch_size=1,
        epochs=1_000,
        evaluate_every=10,
        open=open_,
        facts={
            "function": f"{plane.summary}; float64",
            "start": f"N(0, {DEVIATION:g}²) in both coordinates",
        },
    )


PROBLEMS = tuple(saddle(planes.get(name)) for name in ("saddle", "monkey-saddle"))
