"""Loss and error of a model over whole sets of examples, without leaving a trace."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import nn

from quadric.problems import Batch, Instance


def train_metrics(instance: Instance) -> tuple[float, float | None]:
    """Mean loss and error over the instance's training examples, in evaluation mode."""
    with evaluation_mode(instance.model):
        total = sum(float(instance.loss_fn(instance.model(x), y)) * len(x) for x, y in instance.train)
        return total / examples(instance.train), mean_error(instance, instance.train)


def test_error(instance: Instance) -> float | None:
    """Mean error over the instance's test examples, in evaluation mode; `None` where it has none."""
    with evaluation_mode(instance.model):
        return mean_error(instance, instance.test)


def mean_error(instance: Instance, batches: Sequence[Batch]) -> float | None:
    """Mean error over `batches`, `None` where the notion or the examples are missing."""
    if instance.error is None or not batches:
        return None
    return sum(float(instance.error(instance.model(x), y).sum()) for x, y in batches) / examples(batches)


def examples(batches: Sequence[Batch]) -> int:
    """The number of examples."""
    return sum(len(x) for x, _ in batches)


@contextmanager
def evaluation_mode(model: nn.Module) -> Iterator[None]:
    """Every module in evaluation mode and no gradients within the block; every mode as it was after it."""
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for module, mode in modes.items():
            module.training = mode
