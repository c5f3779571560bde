"""A problem from the user's own model, loss and data: every seed gets new weights and another order."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from quadric.core.errors import unknown_name
from quadric.problems.classification import wrong
from quadric.problems.examples import chunks, shuffled
from quadric.problems.own.objectives import LOSSES
from quadric.problems.own.reference import call, find
from quadric.problems.problem import Draw, Instance, Problem, Target
from quadric.problems.randomness import initialised


def own_problem(model: str, loss: str, data: str) -> Problem:
    """The problem that three references, `pkg.module:name`, make; `loss` may be one of `LOSSES`, too.

    `model` is a function (or class) that makes a module with new weights; `data` is a DataLoader or another iterable of
    batches `(inputs, targets)` of tensors, or a function returning one. All examples are held in memory. The first
    batch gives the batch size, and the order is drawn anew for each seed.

    Raises ValueError or RuntimeError, in a sentence, where one of them is not there, fails or is something else.
    """
    make, function = find(model), find(loss) if ":" in loss else LOSSES.get(loss)
    if function is None:
        raise unknown_name("loss", loss, [*LOSSES, "pkg.module:function"])
    if isinstance(make, nn.Module) or not callable(make):
        raise ValueError(
            f"Expected {model} to be a function that makes a new model, since every run begins with new weights, got "
            f"a {type(make).__name__}."
        )
    inputs, targets, size = examples(data)

    def network() -> nn.Module:
        made = call(model, make)
        if not isinstance(made, nn.Module):
            raise ValueError(f"Expected {model} to return a torch module, got {type(made).__name__}.")
        return made

    def open_(data_dir: Path | None, device: torch.device) -> Draw:
        x, y = inputs.to(device), targets.to(device)
        error = wrong if loss == "cross_entropy" and y.ndim == 1 else None

        def draw(seed: int) -> Instance:
            epoch = shuffled(x, y, size, seed)
            start = initialised(network, seed).to(device)
            return Instance(start, function, epoch, math.ceil(len(x) / size), chunks(x, y), error=error)

        return draw

    steps = math.ceil(len(inputs) / size)
    target = Target("train_loss", -math.inf, "none: it is the user's own")
    return Problem(model, f"{model} with {loss} on {data}", (), target, size, 1, steps, open_, own=True)


def examples(data: str) -> tuple[Tensor, Tensor, int]:
    """Inputs, targets, and the size of the first batch. Raises ValueError where batches are not pairs of tensors."""
    found: Any = find(data)
    if callable(found) and not hasattr(found, "__iter__"):
        found = call(data, found)
    batches = call(data, lambda: list(found))
    for batch in batches:
        if not (isinstance(batch, tuple | list) and len(batch) == 2 and all(isinstance(x, Tensor) for x in batch)):
            raise ValueError(
                f"Expected {data} to yield batches (inputs, targets) of two tensors, got {type(batch).__name__}."
            )
    if not batches:
        raise ValueError(f"{data} yields no batch.")
    inputs, targets = call(data, lambda: [torch.cat(part) for part in zip(*batches, strict=True)])
    return inputs, targets, len(batches[0][0])
