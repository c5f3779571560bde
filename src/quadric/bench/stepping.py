"""One run of any optimiser of ours, step by step under a watch."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from itertools import count

import torch

from quadric.bench.watch import Watch
from quadric.core.errors import ConvergenceError, StepRejected
from quadric.objective import Objective
from quadric.objective.closure import Closure
from quadric.problems import Instance


def on_batches(objective: Objective, instance: Instance) -> Iterator[Closure]:
    """The objective on the instance's batches, without end."""
    for epoch in count():
        for batch in instance.epoch(epoch):
            yield objective.on(batch)


def on_nothing(objective: Objective) -> Iterator[Closure]:
    """An objective without data, without end."""
    while True:
        yield objective.on()


def follow(optimizer: torch.optim.Optimizer, objective: Objective, steps: Iterator[Closure], watch: Watch) -> None:
    """Step until the watch has seen enough. A rejected step counts as one that stays where it is."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", StepRejected)
        for closure in steps:
            before = torch.cat([p.detach().flatten() for p in objective.parameters])
            try:
                loss = float(optimizer.step(closure))  # type: ignore[arg-type]  # torch says float
            except ConvergenceError as error:
                watch.end("gave up", f"step {watch.steps + 1:,}: {error}")
                return
            if not watch.see(loss, before):
                return
