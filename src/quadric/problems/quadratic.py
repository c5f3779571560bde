"""A convex quadratic of chosen spectrum: f(w) = ½ Σ λ_i w_i², with λ_i evenly spaced in the logarithm on [1/κ, 1].

Written as least squares, with residuals √(λ_i / 2) w_i, so that Gauss–Newton curvature is the Hessian, diag(λ). The
minimum is 0, at the origin. κ is the condition number: gradient descent needs a number of steps in proportion to it.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import log10
from pathlib import Path

import torch
from torch import Tensor, nn

from quadric.problems.least_squares import squared_norm
from quadric.problems.problem import Batch, Draw, Instance, Problem, Target
from quadric.problems.randomness import stream

DIMENSION = 100
CONDITION = 1e4
THRESHOLD = 1e-6


def spectrum() -> Tensor:
    """The eigenvalues, float64, shape [DIMENSION], ascending from 1 / CONDITION to 1."""
    return torch.logspace(-log10(CONDITION), 0, DIMENSION, dtype=torch.float64)


class Quadratic(nn.Module):
    """The residuals at `position`, shape [1, DIMENSION]; the input is the eigenvalues, shape [1, DIMENSION]."""

    def __init__(self, start: Tensor) -> None:
        super().__init__()
        self.position = nn.Parameter(start)

    def forward(self, eigenvalues: Tensor) -> Tensor:
        """√(λ_i / 2) w_i."""
        return (eigenvalues / 2).sqrt() * self.position


def open_quadratic(data_dir: Path | None, device: torch.device) -> Draw:
    """Starts drawn from N(0, 1); there are no data."""
    eigenvalues = spectrum()[None].to(device)
    no_residual = torch.zeros_like(eigenvalues)

    def draw(seed: int) -> Instance:
        start = torch.randn(DIMENSION, generator=stream(seed, "start"), dtype=torch.float64)

        def epoch(index: int) -> Iterator[Batch]:
            yield eigenvalues, no_residual

        return Instance(Quadratic(start.to(device)), squared_norm, epoch, 1, train=[(eigenvalues, no_residual)])

    return draw


PROBLEM = Problem(
    name="quadratic",
    summary=f"a convex quadratic in {DIMENSION} variables, condition number {CONDITION:g}",
    rows=(),
    target=Target("step_loss", THRESHOLD, f"the minimum, 0, plus {THRESHOLD:g}", stops=True),
    batch_size=1,
    epochs=2_000,
    evaluate_every=10,
    open=open_quadratic,
    facts={"function": f"½ Σ λ w², log λ evenly spaced on [log 1/{CONDITION:g}, 0], start N(0, 1), float64"},
)
