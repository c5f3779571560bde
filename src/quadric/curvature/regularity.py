"""Whether loss and gradient repeat from one reading of the data to the next: the probe before iterative algorithms."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from quadric.core.randomness import RandomState, own_generators
from quadric.curvature.curvature import Curvature
from quadric.curvature.fisher import Fisher
from quadric.linalg.probes import gaussian, seeded
from quadric.objective.batch import NOTHING
from quadric.objective.isolation import untouched
from quadric.objective.linearization import Linearization
from quadric.operators import queries

ROUNDING = 1e3
"""Multiples of the machine epsilon that sums in another order may differ by."""


@dataclass(frozen=True)
class Reading:
    """f, g, Σ D_b, and the sizes that rounding errors are measured by; `random`: whether random numbers were drawn."""

    loss: float
    gradient: Tensor
    weight: float
    loss_size: float
    gradient_size: float
    random: bool = False


def read(operator: Curvature[Any]) -> Reading:
    """One reading of the data: f = Σ D_b f_b / Σ D_b and its gradient, with the operator's random numbers."""
    objective, space = operator.objective, operator.space
    gradient = torch.zeros(space.numel, dtype=space.dtype, device=space.device)
    loss = loss_size = gradient_size = weights = 0.0
    drawn, generators = False, own_generators(objective.model)
    with untouched(objective.model, operator._random()):
        for batch in objective.batches(operator.data):
            before = RandomState.now(space.device, generators)
            local = Linearization(objective, batch, taped=False)
            drawn = drawn or before.drawn_from()
            weight = local.weight
            if weight > 0:
                slope = space.flatten(local.gradient(retain=False))
                gradient.add_(slope, alpha=weight)
                loss, loss_size = loss + weight * float(local.loss), loss_size + weight * abs(float(local.loss))
                gradient_size += weight * float(slope.norm())
                weights += weight
    if weights == 0:
        raise ValueError(NOTHING)
    return Reading(loss / weights, gradient / weights, weights, loss_size / weights, gradient_size / weights, drawn)


@queries.irregularity.register(Curvature)
def irregularity(operator: Curvature[Any]) -> str | None:
    """Two readings of iterable data, compared: examples may come in another order, but must be the same.

    Asked once; one batch, or a list of them, needs no reading. Cost: two gradients over the data.
    """
    if operator.regular:
        return None
    problem = _of_readings(operator)
    operator.regular = problem is None
    return problem


@queries.irregularity.register(Fisher)
def _of_fisher(operator: Fisher) -> str | None:
    """Besides, two products: draws go by the place of an example in the data, so that its order must stay too."""
    if operator.regular:
        return None
    problem = _of_readings(operator)
    if problem is None:
        v = gaussian(operator.space, 1, seeded(0)).squeeze(1)
        first, second = operator @ v, operator @ v
        if float((first - second).norm()) > ROUNDING * _rounding(operator) * float(first.norm()):
            problem = (
                "The products of this Fisher differ from one reading of the data to the next: its draws go by the "
                "order of the examples, which must stay. Give a loader with shuffle=False, or a list of batches."
            )
    operator.regular = problem is None
    return problem


def _of_readings(operator: Curvature[Any]) -> str | None:
    first, second = read(operator), read(operator)
    allowed = ROUNDING * _rounding(operator)
    if not all(map(torch.isfinite, (torch.tensor([first.loss, second.loss]).sum(), first.gradient.sum()))):
        return f"The loss over the data is {first.loss}, or its gradient is not finite: there is no curvature to see."
    change = float((first.gradient - second.gradient).norm())
    # gradients that vanish batch by batch still carry the rounding of what they are made of
    length = sum(float(p.detach().double().square().sum()) for p in operator.objective.parameters) ** 0.5
    size = first.gradient_size + first.loss_size / max(length, 1.0)
    repeats = abs(first.loss - second.loss) <= allowed * first.loss_size and change <= allowed * size
    if repeats and abs(first.weight - second.weight) <= allowed * first.weight:
        return None
    return (
        "The data differ from one reading to the next: the loss was "
        f"{first.loss:.9g}, then {second.loss:.9g}; the gradient changed by {change / (size or 1.0):.2g} of its size. "
        "An iterative algorithm needs the same examples each time (their order is free): switch off random "
        "augmentation and drop_last, or give a list of batches; BatchNorm in train mode needs the same batches too."
    )


def _rounding(operator: Curvature[Any]) -> float:
    """The machine epsilon of the parameters' least precise dtype."""
    return max(torch.finfo(dtype).eps for dtype in operator.space.dtypes)
