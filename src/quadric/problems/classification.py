"""Image classification with cross-entropy: a data set and a network make a problem."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn

from quadric.problems.data.split import Split
from quadric.problems.examples import Augment, measured_on, on_examples
from quadric.problems.problem import Problem, Target


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
    augment: Augment | None = None,
    size: str = "",
    unsearched: str = "",
) -> Problem:
    """A problem on the images that `load` returns, reshaped to `shape`; see `on_examples` for the options."""

    def shaped(data_dir: Path | None) -> Split:
        split = load(data_dir)
        return replace(
            split,
            train_inputs=split.train_inputs.reshape(-1, *shape),
            test_inputs=split.test_inputs.reshape(-1, *shape),
        )

    return Problem(
        name=name,
        summary=summary,
        rows=rows,
        target=target,
        batch_size=batch_size,
        epochs=epochs,
        evaluate_every=evaluate_every,
        open=on_examples(shaped, network, nn.CrossEntropyLoss(), wrong, batch_size, train_examples, augment),
        facts={
            **facts,
            "loss": "cross-entropy",
            "train loss and error": f"on {measured_on(train_examples)}, in evaluation mode",
            "test error": "on all test examples",
        },
        size=size,
        unsearched=unsearched,
    )


def wrong(outputs: Tensor, targets: Tensor) -> Tensor:
    """1 for each example whose largest output is not its target, else 0."""
    return (outputs.argmax(dim=1) != targets).to(torch.float64)
