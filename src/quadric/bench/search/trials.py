"""One setting of an optimiser, trained and judged."""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from statistics import fmean
from typing import Any, Literal

import torch

from quadric.bench.evaluation import metrics
from quadric.bench.records import End, Evaluation
from quadric.bench.runner import WARM_UP_STEPS, Entry, LinAlgError, Training, run
from quadric.bench.search.folds import FIRST_SEED, Judging, held_out, size
from quadric.core.errors import ConvergenceError, StepRejected
from quadric.problems import Instance, Problem, Target
from quadric.problems.problem import Draw

Metric = Literal["loss", "error"]
Status = Literal["finished", "pruned", "diverged"]
Look = Callable[[int, float], bool]
"""Takes the step and the metric there, within the first run of a setting; whether to give the setting up."""
ENDLESS = Target("train_loss", -math.inf, "none: a search trains to the end")


@dataclass(frozen=True)
class Task:
    """What is searched for: settings of `method` on `problem`, judged by `metric`.

    A run lasts `epochs` epochs or `seconds` of training, whichever end first; `None` sets no end.
    """

    problem: Problem
    draw: Draw
    method: str
    judging: Judging
    epochs: int | None
    metric: Metric
    device: torch.device
    seconds: float | None = None

    def every(self, instance: Instance) -> int:
        """Steps between evaluations: an epoch, or what the problem says where that is longer."""
        return max(self.problem.evaluate_every, instance.steps_per_epoch)

    def check(self) -> None:
        """Raise ValueError where the examples do not divide, or the problem has no such metric."""
        instance = self.draw(FIRST_SEED)
        self.judging.check(size(instance))
        if self.metric == "error" and instance.error is None:
            raise ValueError(f"{self.problem.name} has no notion of an error; use the loss.")


@dataclass(frozen=True)
class Outcome:
    """How a setting did: the metric at the end of each run, and how it ended. `seconds` include the evaluations."""

    status: Status
    reason: str
    seconds: float
    scores: list[float] = field(default_factory=list)

    @property
    def value(self) -> float:
        """The mean over runs."""
        return fmean(self.scores)


def evaluate(task: Task, hyper: dict[str, Any], look: Look) -> Outcome:
    """Train with these settings, once for each seed and fold, until `look` gives them up or a run diverges."""
    start = time.perf_counter()
    try:
        status, reason, scores = train(task, hyper, look)
    except LinAlgError as error:
        status, reason, scores = "diverged", str(error), []
    return Outcome(status, reason, time.perf_counter() - start, scores)


def train(task: Task, hyper: dict[str, Any], look: Look) -> tuple[Status, str, list[float]]:
    """How the runs ended, why, and the metric at the end of each."""
    scores: list[float] = []
    for index, (seed, fold) in enumerate(task.judging.runs):
        instance = held_out(task.draw, task.problem, task.judging, fold)(seed)
        problem = replace(task.problem, target=ENDLESS, evaluate_every=task.every(instance))
        entry = Entry(task.method, hyper)
        last = math.inf
        draw = partial(given, instance)
        events = run(problem, [entry], draw, epochs=task.epochs, seeds=[seed], device=task.device, seconds=task.seconds)
        for event in events:
            if isinstance(event, Evaluation):
                last = measured(event, task)
                if index == 0 and event.step and math.isfinite(last) and look(event.step, last):
                    reason = f"{task.metric} {last:.4g} after {event.step} steps, worse than the median of others there"
                    return "pruned", reason, []
            elif isinstance(event, End) and (event.status == "diverged" or not math.isfinite(last)):
                reason = event.reason if event.status == "diverged" else f"the {task.metric} at the end is {last}"
                return "diverged", reason, []
        scores.append(last)
    return "finished", "all runs done", scores


def given(instance: Instance, seed: int) -> Instance:
    """The instance, which was drawn already."""
    return instance


def measured(event: Evaluation, task: Task) -> float:
    """The metric on what the setting is judged on; infinite where it is not a number."""
    where = "test" if task.judging.folds or task.judging.holdout else "train"
    value = getattr(event, f"{where}_{task.metric}")
    return math.inf if value is None or math.isnan(value) else float(value)


def estimate(task: Task, hyper: dict[str, Any]) -> float:
    """Seconds that one setting takes, from a step and an evaluation that are thrown away; 0 where the step fails.

    Raises what the optimiser raises where it does not take these settings.
    """
    seed, fold = task.judging.runs[0]
    instance = held_out(task.draw, task.problem, task.judging, fold)(seed)
    training = Training(Entry(task.method, hyper), task.problem, instance, seed, task.device)
    seconds = 0.0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", StepRejected)
        for _ in range(WARM_UP_STEPS):
            before = training.watch.seconds
            try:
                training.step(instance.epoch(0))
            except (ConvergenceError, LinAlgError):
                return 0.0
            seconds = training.watch.seconds - before
    start = time.perf_counter()
    metrics(instance, instance.train)
    metrics(instance, instance.test)
    looking = time.perf_counter() - start
    steps = min(
        math.inf if task.epochs is None else task.epochs * instance.steps_per_epoch,
        math.inf if task.seconds is None else math.ceil(task.seconds / max(seconds, 1e-9)),
    )
    each = steps * seconds + (2 + steps / task.every(instance)) * looking
    return each * len(task.judging.runs)
