"""An objective from a model and a loss given by name, for the batches that loaders usually yield."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from quadric.core.errors import unknown_name
from quadric.objective import Objective
from quadric.objective.batch import Unpack
from quadric.problems.own.reference import find

LOSSES: dict[str, Callable[..., Tensor]] = {
    "cross_entropy": F.cross_entropy,
    "mse": F.mse_loss,
    "bce_with_logits": F.binary_cross_entropy_with_logits,
}
MODEL = "model"
"""The name of the loss that the model returns itself."""
LABELS = "labels"
"""The entry of a batch in dictionary form that holds the targets."""


def objective_of(model: nn.Module, loss: str, params: list[str] | None = None) -> tuple[Objective, Unpack]:
    """The objective of a model with a loss by name, and how to take its batches apart.

    The loss is one of `LOSSES`, "model", or `pkg.module:function`. Batches are pairs `(inputs, targets)` or
    dictionaries, whose "labels" are the targets. Outputs that hold `.logits` give these to the loss. With "model", the
    model gets the targets too, and returns the loss or an object with `.loss`.

    Raises ValueError for a loss that is not known.
    """
    if loss == MODEL:
        return Objective(model, None, params=params, loss_of=_own_loss), _whole
    function = find(loss) if ":" in loss else LOSSES.get(loss)
    if function is None:
        raise unknown_name("loss", loss, [*LOSSES, MODEL, "pkg.module:function"])
    return Objective(model, function, params=params, prediction=_logits), _pair


def _pair(batch: Any) -> Any:
    """Inputs and targets; a dictionary without labels stays what it is, and is refused."""
    if not isinstance(batch, Mapping) or LABELS not in batch:
        return batch
    return {name: value for name, value in batch.items() if name != LABELS}, batch[LABELS]


def _whole(batch: Any) -> Any:
    """All of the batch as inputs."""
    return (dict(batch) if isinstance(batch, Mapping) else tuple(batch)), None


def _logits(outputs: Any) -> Any:
    return getattr(outputs, "logits", outputs)


def _own_loss(outputs: Any) -> Any:
    return getattr(outputs, "loss", outputs)
