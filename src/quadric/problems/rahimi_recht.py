"""Rahimi and Recht's ill-conditioned two-layer linear network.

Minimise the mean of ‖W₂ W₁ x − A x‖² over 1,000 fixed Gaussian x, full batch: 6 inputs, 10 hidden units, 10 outputs and
A = diag(linspace(1, 1e-5, 10)) · U[0, 1]^{10×6}. Reference: Henriques et al. (2019), section 4.1 and table 1, with the
details of the authors' program: both layers start with deviation 2 / (inputs + outputs), that is 2/16 and 0.1.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor, nn

from quadric.problems.least_squares import squared_norm
from quadric.problems.problem import Batch, Draw, Instance, Problem, Target
from quadric.problems.randomness import initialised, stream

INPUTS, HIDDEN, OUTPUTS = 6, 10, 10
EXAMPLES = 1_000


def ill_conditioned(generator: torch.Generator) -> Tensor:
    """A, of shape [10, 6]: rows of uniform numbers whose scale falls from 1 to 1e-5."""
    scales = torch.linspace(1.0, 1e-5, OUTPUTS, dtype=torch.float64)
    return scales[:, None] * torch.rand(OUTPUTS, INPUTS, generator=generator, dtype=torch.float64)


def network(generator: torch.Generator) -> nn.Module:
    """Two linear layers without intercepts, normal weights of deviation 2 / (inputs + outputs)."""
    layers = [nn.Linear(*sizes, bias=False, dtype=torch.float64) for sizes in ((INPUTS, HIDDEN), (HIDDEN, OUTPUTS))]
    for layer in layers:
        deviation = 2 / (layer.in_features + layer.out_features)
        nn.init.normal_(layer.weight, std=deviation, generator=generator)
    return nn.Sequential(*layers)


def open_(data_dir: Path | None, device: torch.device) -> Draw:
    """A, the examples and the weights are drawn from the seed."""

    def draw(seed: int) -> Instance:
        inputs = torch.randn(EXAMPLES, INPUTS, generator=stream(seed, "inputs"), dtype=torch.float64)
        targets = inputs @ ill_conditioned(stream(seed, "matrix")).T
        batch = inputs.to(device), targets.to(device)

        def epoch(index: int) -> Iterator[Batch]:
            yield batch

        model = initialised(lambda: network(stream(seed, "weights")), seed).to(device)
        return Instance(model, squared_norm, epoch, 1, train=[batch])

    return draw


PROBLEM = Problem(
    name="rahimi-recht",
    summary="Rahimi and Recht's ill-conditioned two-layer linear network, full batch",
    rows=("S2.5",),
    target=Target(
        "step_loss", 1e-4, "the paper's: the first step whose loss, before it moves, is that low", stops=True
    ),
    batch_size=EXAMPLES,
    epochs=1_000,
    evaluate_every=1,
    open=open_,
    facts={
        "data": "1,000 Gaussian examples, A = diag(linspace(1, 1e-5, 10)) · U[0, 1]^{10×6}, from the seed, float64",
        "steps to target": "the number, from 1, of the step that sees the low loss before it moves",
    },
)
