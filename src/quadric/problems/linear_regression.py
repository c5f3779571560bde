"""Linear regression on 100 points of a noisy line, with and without an intercept, and its closed-form answer.

The points are x ~ U[0, 1], y = 2x + 1 + 0.1·N(0, 1), drawn by NumPy's RandomState(0). Without an intercept the best
slope is not 2: the line has to pass through the origin.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from quadric.problems.problem import Batch, Draw, Instance, Problem, Target
from quadric.problems.randomness import initialised, stream

EXAMPLES = 100
TOLERANCE = 1e-6


def points() -> Batch:
    """The 100 points as float64 columns x and y."""
    random = np.random.RandomState(0)
    x = random.rand(EXAMPLES, 1)
    y = 2 * x + 1 + 0.1 * random.randn(EXAMPLES, 1)
    return torch.from_numpy(x), torch.from_numpy(y)


def closed_form(intercept: bool) -> tuple[Tensor, float]:
    """The minimiser of the mean squared error, (slope, intercept) or (slope,), and the minimum."""
    x, y = points()
    design = torch.cat([x, torch.ones_like(x)], dim=1) if intercept else x
    solution: Tensor = torch.linalg.lstsq(design, y).solution
    return solution.flatten(), (design @ solution - y).square().mean().item()


def linear_regression(name: str, intercept: bool) -> Problem:
    """The problem of fitting the line; weights start at N(0, 1) drawn from the seed."""
    weights, minimum = closed_form(intercept)
    answer = ", ".join(
        f"{part} {value:.6f}" for part, value in zip(("slope", "intercept"), weights.tolist(), strict=False)
    )

    def open_(data_dir: Path | None, device: torch.device) -> Draw:
        x, y = (values.to(device) for values in points())

        def draw(seed: int) -> Instance:
            model = initialised(lambda: nn.Linear(1, 1, bias=intercept, dtype=torch.float64), seed)
            generator = stream(seed, "weights")
            with torch.no_grad():
                for parameter in model.parameters():
                    parameter.normal_(generator=generator)

            def epoch(index: int) -> Iterator[Batch]:
                yield x, y

            return Instance(model.to(device), nn.MSELoss(), epoch, 1, train=[(x, y)])

        return draw

    return Problem(
        name=name,
        summary=f"a line through 100 points{'' if intercept else ', no intercept'}; closed form: {answer}",
        rows=("S1.7",),
        target=Target(
            "train_loss", minimum + TOLERANCE, f"the closed form's minimum, {minimum:.6f}, plus {TOLERANCE:g}"
        ),
        batch_size=EXAMPLES,
        epochs=500,
        evaluate_every=1,
        open=open_,
        facts={
            "data": "x ~ U[0, 1], y = 2x + 1 + 0.1·N(0, 1), NumPy's RandomState(0), full batch, float64",
            "closed form": f"{answer}, train loss {minimum:.9f}",
        },
    )


WITH_INTERCEPT = linear_regression("linear-regression", intercept=True)
WITHOUT_INTERCEPT = linear_regression("linear-regression-no-intercept", intercept=False)
