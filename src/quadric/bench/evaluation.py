"""Loss and error of a model over whole sets of examples, without leaving a trace."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import nn

from quadric.problems import Batch, Instance


def metrics(instance: Instance, batches: Sequence[Batch]) -> tuple[float | None, float | None]:
    """Mean loss and error over `batches`, in evaluation mode; `None` where the examples or the notion are missing."""
    if not batches:
        return None, None
    with evaluation_mode(instance.model):
        count = loss = wrong = 0.0
        for x, y in batches:
            outputs = instance.model(x)
            count += len(x)
            loss += float(instance.loss_fn(outputs, y)) * len(x)
            wrong += float(instance.error(outputs, y).sum()) if instance.error is not None else 0.0
    return loss / count, None if instance.error is None else wrong / count


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
