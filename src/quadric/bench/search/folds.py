"""What a search judges settings on: training examples that are held out, in folds or once. It has no test examples.

The examples of a seed are those of its first epoch, in its order, and augmented as they are there; fold i of k holds
out the examples i, i + k, … of it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch

from quadric.problems import Instance, Problem
from quadric.problems.examples import chunks, shuffled
from quadric.problems.problem import Draw

FIRST_SEED = 1001
"""The seeds of a search are none that comparisons use by default."""


@dataclass(frozen=True)
class Judging:
    """How a setting is judged: by k-fold cross-validation, by a share held out once, or, with neither, by train loss.

    Each of the `seeds`, from `first` on, gives other starting weights and other folds.
    """

    folds: int = 0
    holdout: float = 0.0
    seeds: int = 1
    first: int = FIRST_SEED

    def __str__(self) -> str:
        runs = f", {self.seeds} seeds" if self.seeds > 1 else ""
        if self.folds:
            return f"{self.folds}-fold cross-validation{runs}"
        return (f"{self.holdout:.0%} of the training examples, held out" if self.holdout else "train loss") + runs

    @property
    def runs(self) -> list[tuple[int, int]]:
        """Seed and fold of every run of a setting."""
        return [(self.first + seed, fold) for seed in range(self.seeds) for fold in range(max(self.folds, 1))]

    def check(self, examples: int) -> None:
        """Raise ValueError where so many examples cannot be divided in this way."""
        if self.folds > examples:
            fewer = f"use at most {examples} folds, or none" if examples > 1 else "use none, and the train loss judges"
            raise ValueError(f"There are {self.folds} folds and {examples} training example(s): {fewer}.")
        if self.holdout and not 1 <= round(self.holdout * examples) < examples:
            raise ValueError(f"A share of {self.holdout:g} of {examples} training example(s) leaves one side empty.")


def size(instance: Instance) -> int:
    """The number of training examples."""
    return sum(len(x) for x, _ in instance.epoch(0))


def without_test(draw: Draw) -> Draw:
    """`draw` without test examples."""
    return lambda seed: replace(draw(seed), test=())


def held_out(draw: Draw, problem: Problem, judging: Judging, fold: int) -> Draw:
    """Instances that train on a part of the training examples, with the rest of them in the place of test examples."""
    if not (judging.folds or judging.holdout):
        return without_test(draw)

    def drawn(seed: int) -> Instance:
        instance = draw(seed)
        pairs = list(instance.epoch(0))
        inputs, targets = (torch.cat(part) for part in zip(*pairs, strict=True))
        held = torch.zeros(len(inputs), dtype=torch.bool, device=inputs.device)
        if judging.folds:
            held[fold :: judging.folds] = True
        else:
            held[: round(judging.holdout * len(inputs))] = True
        kept = inputs[~held], targets[~held]
        return replace(
            instance,
            epoch=shuffled(*kept, problem.batch_size, seed),
            steps_per_epoch=math.ceil(len(kept[0]) / problem.batch_size),
            train=(),
            test=chunks(inputs[held], targets[held]),
        )

    return drawn
