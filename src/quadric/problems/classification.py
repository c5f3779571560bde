"""Image classification with cross-entropy: a data set and a network make a problem."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from math import ceil
from pathlib import Path

import torch
from torch import Tensor, nn

from quadric.problems.data.split import Split
from quadric.problems.problem import Batch, Draw, Instance, Problem, Target
from quadric.problems.randomness import initialised, stream

EVALUATION_BATCH = 2_000


def classification(
    *,
    name: str,
    summary: str,
    rows: tuple[str, ...],
    load: Callable[[Path | None], Split],
    network: Callable[[], nn.Module],
    shape: tuple[int, ...],
    batch_size: int,
    epochs: int,
    evaluate_every: int,
    target: Target,
    facts: dict[str, str],
    train_examples: int | None = None,
) -> Problem:
    """A problem on the images that `load` returns, reshaped to `shape`, with torch's default initialisation.

    Train loss and train error are measured on `train_examples` evenly spaced training images (all, if `None`).
    """
    measured = (
        "all training examples" if train_examples is None else f"{train_examples:,} evenly spaced training examples"
    )

    def open_(data_dir: Path | None, device: torch.device) -> Draw:
        split = load(data_dir)
        inputs = split.train_inputs.reshape(-1, *shape).to(device)
        targets = split.train_targets.to(device)
        stride = 1 if train_examples is None else len(inputs) // train_examples
        chosen = slice(0, None if train_examples is None else stride * train_examples, stride)
        train = chunks(inputs[chosen], targets[chosen])
        test = chunks(split.test_inputs.reshape(-1, *shape).to(device), split.test_targets.to(device))

        def draw(seed: int) -> Instance:
            def epoch(index: int) -> Iterator[Batch]:
                order = torch.randperm(len(inputs), generator=stream(seed, "order", index)).to(device)
                for rows_ in torch.split(order, batch_size):
                    yield inputs[rows_], targets[rows_]

            model = initialised(network, seed).to(device)
            return Instance(model, nn.CrossEntropyLoss(), epoch, ceil(len(inputs) / batch_size), train, test, wrong)

        return draw

    return Problem(
        name=name,
        summary=summary,
        rows=rows,
        target=target,
        batch_size=batch_size,
        epochs=epochs,
        evaluate_every=evaluate_every,
        open=open_,
        facts={
            **facts,
            "loss": "cross-entropy",
            "train loss and error": f"on {measured}, in evaluation mode",
            "test error": "on all test examples",
        },
    )


def wrong(outputs: Tensor, targets: Tensor) -> Tensor:
    """1 for each example whose largest output is not its target, else 0."""
    return (outputs.argmax(dim=1) != targets).to(torch.float64)


def chunks(inputs: Tensor, targets: Tensor) -> list[Batch]:
    """The examples in batches for evaluation."""
    return list(zip(torch.split(inputs, EVALUATION_BATCH), torch.split(targets, EVALUATION_BATCH), strict=True))
