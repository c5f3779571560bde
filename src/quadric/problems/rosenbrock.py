"""The Rosenbrock function as least squares, deterministic or with noise drawn anew at every step.

f(u, v) = (1 − u)² + 100 ε (v − u²)², the squared norm of the residuals (1 − u, 10 √ε (v − u²)), where ε = 1, or ε is
drawn from U[0, noise]. Reference: Henriques, Ehrhardt, Albanie, Vedaldi (2019), "Small steps and giant leaps", section
4.1 and table 1. The formula there has ε in the loss; the authors' program multiplies the *residual* by ε, so that its
loss has ε². Both are here.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

import torch
from torch import Tensor, nn

from quadric.problems.least_squares import squared_norm
from quadric.problems.problem import Batch, Draw, Instance, Problem, Target
from quadric.problems.randomness import stream

THRESHOLD = 1e-4
MOST_STEPS = 5_000


class Rosenbrock(nn.Module):
    """The residuals at `position` = (u, v) for noise of shape [examples]: shape [examples, 2]."""

    def __init__(self, start: Tensor) -> None:
        super().__init__()
        self.position = nn.Parameter(start)

    def forward(self, noise: Tensor) -> Tensor:
        """(1 − u, 10 √ε (v − u²)) for each ε in `noise`."""
        u, v = self.position
        return torch.stack([(1 - u).expand_as(noise), 10 * noise.sqrt() * (v - u * u)], dim=1)


@lru_cache(maxsize=2**17)
def uniform(seed: int, index: int) -> Tensor:
    """The number of U[0, 1] behind a step's noise; remembered, since every method of a comparison asks for it."""
    return torch.rand(1, generator=stream(seed, "noise", index), dtype=torch.float64)


def rosenbrock(name: str, noise: float | None = None, squared: bool = False) -> Problem:
    """The problem with ε = 1 (`noise=None`) or ε ~ U[0, noise] at every step; `squared` puts ε² in ε's place.

    The start is (−0.25, −0.25) + (U[0, 1] − 0.5) / 2, the same number added to both. The run is evaluated on the
    expected function, which is the function at the mean of ε (of ε², if `squared`).
    """
    power = 2 if squared else 1
    mean = 1.0 if noise is None else noise**power / (power + 1)

    def open_(data_dir: Path | None, device: torch.device) -> Draw:
        no_residual = torch.zeros(1, 2, dtype=torch.float64, device=device)

        def draw(seed: int) -> Instance:
            shift = (torch.rand(1, generator=stream(seed, "start"), dtype=torch.float64) - 0.5) / 2
            model = Rosenbrock((torch.full((2,), -0.25, dtype=torch.float64) + shift).to(device))

            def epoch(index: int) -> Iterator[Batch]:
                epsilon = torch.ones(1, dtype=torch.float64)
                if noise is not None:
                    epsilon = (noise * uniform(seed, index)) ** power
                yield epsilon.to(device), no_residual

            expected = torch.full((1,), mean, dtype=torch.float64, device=device)
            return Instance(model, squared_norm, epoch, 1, train=[(expected, no_residual)])

        return draw

    kind = "deterministic" if noise is None else f"noise {'ε²' if squared else 'ε'}, ε ~ U[0,{noise:g}] at every step"
    return Problem(
        name=name,
        summary=f"Rosenbrock's function, {kind}" + (" (the authors' code)" if squared else ""),
        rows=("S2.4", "S2.5"),
        target=Target(
            "step_loss", THRESHOLD, "the paper's: the first step whose loss, before it moves, is that low", stops=True
        ),
        batch_size=1,
        epochs=MOST_STEPS,
        evaluate_every=10,
        open=open_,
        facts={
            "function": "(1 − u)² + 100 ε (v − u²)², float64" + (", with ε² in the place of ε" if squared else ""),
            "train loss": "of the expected function",
            "steps to target": "the number, from 1, of the step that sees the low loss before it moves",
        },
    )


VARIANTS = (
    rosenbrock("rosenbrock"),
    rosenbrock("rosenbrock-u1", noise=1.0),
    rosenbrock("rosenbrock-u3", noise=3.0),
    rosenbrock("rosenbrock-u1-squared", noise=1.0, squared=True),
    rosenbrock("rosenbrock-u3-squared", noise=3.0, squared=True),
)
