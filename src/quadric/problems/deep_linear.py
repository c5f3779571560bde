"""A deep linear network started near its saddle, with its saddles and its minimum in closed form.

Minimise the mean of ‖W₄W₃W₂W₁x − Ax‖² over white inputs, mean of xxᵀ = I, so that the loss is ‖W₄W₃W₂W₁ − A‖². The
hidden layers have 4 units, A is 8×8 with singular values 1, 1/2, 1/4, …, 1/128. The best product is A's best
approximation of rank 4, and what is left is the sum of the squares of its other singular values (Eckart and Young).

The start is (W₁, W₂, W₃, W₄) = (0, I, I, 0) and noise. Without noise that is a saddle with negative curvature. Gradient
descent then learns one singular direction after the other, with a saddle of each rank to pass, where the loss rests at
the sum of the squares that are still missing. (With all four factors zero the Hessian vanishes altogether, and second
derivatives decide nothing.)

References: Baldi and Hornik (1989); Saxe, McClelland and Ganguli (2014), Exact solutions to the nonlinear dynamics of
learning in deep linear neural networks; Kawaguchi (2016), Deep learning without poor local minima.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor, nn

from quadric.problems.least_squares import squared_norm
from quadric.problems.problem import Batch, Draw, Instance, Problem, Target
from quadric.problems.randomness import initialised, stream

OUTER, HIDDEN, LAYERS = 8, 4, 4
EXAMPLES = 64
DEVIATION = 0.01
TOLERANCE = 1e-4
"""How far above the minimum counts as solved."""


def singular_values() -> Tensor:
    """1, 1/2, 1/4, …, float64, shape [8]."""
    return torch.logspace(0, 1 - OUTER, OUTER, base=2.0, dtype=torch.float64)


def resting_loss(rank: int) -> float:
    """The loss of A's best approximation of `rank`: at rank 4 the minimum, below it that of a saddle."""
    return singular_values()[rank:].square().sum().item()


def orthonormal(rows: int, generator: torch.Generator) -> Tensor:
    """`rows` × 8 with orthonormal columns."""
    basis: Tensor = torch.linalg.qr(torch.randn(rows, OUTER, generator=generator, dtype=torch.float64)).Q
    return basis


def saddle() -> nn.Sequential:
    """The network with factors (0, I, I, 0): a stationary point with negative curvature."""
    widths = [(OUTER, HIDDEN), *[(HIDDEN, HIDDEN)] * (LAYERS - 2), (HIDDEN, OUTER)]
    layers = [nn.Linear(*sizes, bias=False, dtype=torch.float64) for sizes in widths]
    for layer in (layers[0], layers[-1]):
        nn.init.zeros_(layer.weight)
    for layer in layers[1:-1]:
        nn.init.eye_(layer.weight)
    return nn.Sequential(*layers)


def open_(data_dir: Path | None, device: torch.device) -> Draw:
    """A, the examples and the noise are drawn from the seed."""

    def draw(seed: int) -> Instance:
        inputs = EXAMPLES**0.5 * orthonormal(EXAMPLES, stream(seed, "inputs"))
        left, right = orthonormal(OUTER, stream(seed, "left")), orthonormal(OUTER, stream(seed, "right"))
        batch = inputs.to(device), (inputs @ (left * singular_values() @ right.T).T).to(device)
        model, noise = initialised(saddle, seed), stream(seed, "noise")
        with torch.no_grad():
            for weight in model.parameters():
                weight.add_(DEVIATION * torch.randn(weight.shape, generator=noise, dtype=torch.float64))

        def epoch(index: int) -> Iterator[Batch]:
            yield batch

        return Instance(model.to(device), squared_norm, epoch, 1, train=[batch])

    return draw


PROBLEM = Problem(
    name="deep-linear",
    summary=f"linear network of {LAYERS} factors, started near a saddle; minimum in closed form",
    rows=("S4.4",),
    target=Target(
        "step_loss",
        resting_loss(HIDDEN) + TOLERANCE,
        f"the closed form's minimum, {resting_loss(HIDDEN):.6f}, plus {TOLERANCE:g}",
        stops=True,
    ),
    batch_size=EXAMPLES,
    epochs=1_000,
    evaluate_every=10,
    open=open_,
    facts={
        "data": f"{EXAMPLES} white inputs and A with singular values 1, 1/2, …, 1/128, from the seed; float64",
        "start": f"factors (0, I, I, 0) and noise N(0, {DEVIATION:g}²)",
        "closed form": f"the minimum is {resting_loss(HIDDEN):.9f}; saddles of rank 0 to 3 at "
        + ", ".join(f"{resting_loss(rank):.4f}" for rank in range(HIDDEN)),
    },
)
