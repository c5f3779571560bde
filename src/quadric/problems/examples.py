"""A data set, a network and a loss make a problem: mini-batches in a fixed order, and what they are judged on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from math import ceil
from pathlib import Path

import torch
from torch import Tensor, nn

from quadric.problems.data.split import Split
from quadric.problems.problem import Batch, Draw, Instance, LossFunction
from quadric.problems.randomness import initialised, stream

EVALUATION_BATCH = 2_000
Augment = Callable[[Tensor, torch.Generator], Tensor]
"""Changes a batch of inputs at random, drawing from the generator alone."""


def on_examples(
    load: Callable[[Path | None], Split],
    network: Callable[[], nn.Module],
    loss_fn: LossFunction,
    error: Callable[[Tensor, Tensor], Tensor] | None,
    batch_size: int,
    train_examples: int | None = None,
    augment: Augment | None = None,
) -> Callable[[Path | None, torch.device], Draw]:
    """How to open a problem on the examples that `load` returns, with torch's default initialisation.

    Train loss and train error are measured on `train_examples` evenly spaced training examples (all, if `None`, or if
    there are fewer), without `augment`, which changes only what is trained on.
    """

    def open_(data_dir: Path | None, device: torch.device) -> Draw:
        split = load(data_dir)
        inputs, targets = split.train_inputs.to(device), split.train_targets.to(device)
        count = min(train_examples or len(inputs), len(inputs))
        stride = len(inputs) // count
        chosen = slice(0, stride * count, stride)
        train = chunks(inputs[chosen], targets[chosen])
        test = chunks(split.test_inputs.to(device), split.test_targets.to(device))

        def draw(seed: int) -> Instance:
            model = initialised(network, seed).to(device)
            epoch = shuffled(inputs, targets, batch_size, seed, augment)
            return Instance(model, loss_fn, epoch, ceil(len(inputs) / batch_size), train, test, error, split.note)

        return draw

    return open_


def shuffled(
    inputs: Tensor, targets: Tensor, batch_size: int, seed: int, augment: Augment | None = None
) -> Callable[[int], Iterator[Batch]]:
    """Epochs of mini-batches; order and augmentation of epoch i depend on `seed` and i alone."""

    def epoch(index: int) -> Iterator[Batch]:
        order = torch.randperm(len(inputs), generator=stream(seed, "order", index)).to(inputs.device)
        changes = stream(seed, "augmentation", index)
        for rows_ in torch.split(order, batch_size):
            batch = inputs[rows_]
            yield batch if augment is None else augment(batch, changes), targets[rows_]

    return epoch


def measured_on(train_examples: int | None) -> str:
    """What train loss and train error are measured on, for a reader of the numbers."""
    return "all training examples" if train_examples is None else f"{train_examples:,} evenly spaced training examples"


def chunks(inputs: Tensor, targets: Tensor) -> list[Batch]:
    """The examples in batches for evaluation."""
    return list(zip(torch.split(inputs, EVALUATION_BATCH), torch.split(targets, EVALUATION_BATCH), strict=True))
