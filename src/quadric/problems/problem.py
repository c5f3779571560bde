"""What a problem is: a model, a loss, data in a fixed order, and a target to reach."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

Batch = tuple[Tensor, Tensor]
LossFunction = Callable[[Tensor, Tensor], Tensor]
Metric = Literal["step_loss", "train_loss", "train_error", "test_error"]


@dataclass(frozen=True)
class Target:
    """When a run counts as solved: `metric` at or below `threshold`; `origin` says how that was chosen.

    `step_loss` is the loss that a step evaluates before it moves, on the batch of that step: every step is looked at.
    The other metrics are looked at whenever the run is evaluated. With `stops`, a run ends when it is solved.
    """

    metric: Metric
    threshold: float
    origin: str
    stops: bool = False

    def __str__(self) -> str:
        return f"{self.metric.replace('_', ' ')} ≤ {self.threshold:g}"


@dataclass(frozen=True)
class Instance:
    """A problem drawn for one seed: every optimiser that gets this seed starts here and sees these batches.

    `epoch(i)` yields the batches of epoch i, `steps_per_epoch` of them, the same ones whenever it is called. The run is
    evaluated on `train` and `test`; an empty `test` means there is none. `error` maps outputs and targets to one number
    per example, 1 where the example is wrong, and is `None` where a problem has no such notion. `note` is what must
    stand beside the numbers and only the data can tell, such as that they are not the published ones.
    """

    model: nn.Module
    loss_fn: LossFunction
    epoch: Callable[[int], Iterator[Batch]]
    steps_per_epoch: int
    train: Sequence[Batch]
    test: Sequence[Batch] = ()
    error: Callable[[Tensor, Tensor], Tensor] | None = None
    note: str = ""


Draw = Callable[[int], Instance]


@dataclass(frozen=True)
class Problem:
    """A named problem. `open(data_dir, device)` loads its data and returns `draw`; `draw(seed)` gives an `Instance`.

    `epochs` is the default length of a run, `evaluate_every` the number of steps between evaluations, and `threads` the
    number of CPU threads that suits it: small ones lose more by waiting for threads than they win. `facts` says what a
    reader of the numbers has to know: the split, the normalisation, what the losses are measured on. `own`: the user's.

    `unsearched` says why no search for learning rates comes with the package, where none does.

    A problem too large for some machines has `scales`, its other sizes by name; `scale` is the name of its own, and
    `size` says in words what that is. Whatever depends on the size, the target included, differs between them.
    """

    name: str
    summary: str
    rows: tuple[str, ...]
    target: Target
    batch_size: int
    epochs: int
    evaluate_every: int
    open: Callable[[Path | None, torch.device], Draw]
    facts: dict[str, str] = field(default_factory=dict)
    threads: int = 1
    own: bool = False
    unsearched: str = ""
    scale: str = ""
    size: str = ""
    scales: Mapping[str, Problem] = field(default_factory=dict)

    @property
    def label(self) -> str:
        """The name, with the scale where there are several: numbers under different labels are never mixed."""
        return f"{self.name}/{self.scale}" if self.scale else self.name

    @property
    def sizes(self) -> list[Problem]:
        """The problem at each of its scales."""
        return list(self.scales.values()) or [self]

    def at(self, scale: str) -> Problem:
        """The problem at that scale; one of a single size is the same at all.

        Raises:
            ValueError: it has other scales.
        """
        if not self.scales:
            return self
        if scale not in self.scales:
            raise ValueError(f"{self.name} has the scales {', '.join(self.scales)}, not {scale!r}.")
        return self.scales[scale]


def scaled(sizes: Mapping[str, Problem]) -> Problem:
    """One problem of several sizes: the first of them, which knows them all by name."""
    sizes = {scale: replace(problem, scale=scale) for scale, problem in sizes.items()}
    return replace(next(iter(sizes.values())), scales=sizes)
