"""From the runs of an optimiser to numbers: medians over seeds and their spread."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from math import inf
from statistics import median
from typing import Any

from quadric.bench.records import Evaluation, Record, Run


@dataclass(frozen=True)
class Spread:
    """The median of some numbers, and the smallest and largest of them."""

    median: float
    low: float
    high: float


@dataclass(frozen=True)
class Summary:
    """What an optimiser did, over its seeds; `None` is not measured, or not reached.

    Final values and times are over the runs that did not diverge. In steps and seconds to the target a run that missed
    it counts as infinite, so the median is infinite unless most runs reached it; runs that were interrupted before are
    left out.
    """

    optimizer: str
    track: str
    settings: str
    runs: int
    reached: int
    diverged: int
    unfinished: int
    steps: Spread | None
    seconds: Spread | None
    train_loss: Spread | None
    train_error: Spread | None
    test_loss: Spread | None
    test_error: Spread | None
    steps_to_target: Spread | None
    seconds_to_target: Spread | None


@dataclass(frozen=True)
class Point:
    """A point of a curve: the median over seeds of a metric at a step, at their median seconds."""

    step: int
    epoch: float
    seconds: float
    value: Spread


def spread(values: Iterable[float | None]) -> Spread | None:
    """The spread of the numbers among `values`; `None` if there is none."""
    numbers = [value for value in values if value is not None]
    return Spread(median(numbers), min(numbers), max(numbers)) if numbers else None


def summarise(record: Record) -> list[Summary]:
    """One summary for each optimiser, in the order of the comparison."""
    return [
        summary(entry["name"], entry["track"], settings(entry["hyper"]), record.runs_of(entry["name"]))
        for entry in entries(record)
    ]


def entries(record: Record) -> list[dict[str, Any]]:
    """The optimisers that have at least one evaluation: those that run as they are, then the tuned ones."""
    begun = [e for e in record.header.optimizers if any(run.evaluations for run in record.runs_of(e["name"]))]
    return sorted(begun, key=lambda entry: str(entry["track"]))


def settings(hyper: dict[str, Any]) -> str:
    """Hyper-parameters in words."""
    shown = {name: f"{value:g}" if isinstance(value, int | float) else value for name, value in hyper.items()}
    return ", ".join(f"{name} {value}" for name, value in shown.items()) or "none set"


def summary(optimizer: str, track: str, chosen: str, runs: list[Run]) -> Summary:
    """The summary of one optimiser's runs; those that did not begin are left out."""
    runs = [run for run in runs if run.evaluations]
    ended = [run for run in runs if run.status != "diverged"]
    tried = [run.reached for run in runs if run.reached or run.end]

    def last(metric: Callable[[Evaluation], float | None]) -> Spread | None:
        return spread(metric(run.evaluations[-1]) for run in ended)

    return Summary(
        optimizer=optimizer,
        track=track,
        settings=chosen,
        runs=len(runs),
        reached=sum(run.reached is not None for run in runs),
        diverged=len(runs) - len(ended),
        unfinished=sum(run.status == "interrupted" for run in runs),
        steps=last(lambda evaluation: evaluation.step),
        seconds=last(lambda evaluation: evaluation.seconds),
        train_loss=last(lambda evaluation: evaluation.train_loss),
        train_error=last(lambda evaluation: evaluation.train_error),
        test_loss=last(lambda evaluation: evaluation.test_loss),
        test_error=last(lambda evaluation: evaluation.test_error),
        steps_to_target=spread(event.step if event else inf for event in tried),
        seconds_to_target=spread(event.seconds if event else inf for event in tried),
    )


def curve(runs: list[Run], metric: Callable[[Evaluation], float | None]) -> list[Point]:
    """A metric along the runs: a point for each step that every run which got that far was evaluated at.

    Runs that are over are left out of later points, so a curve ends where its longest run does. Where slow runs leave,
    points that would go back in time are left out.
    """
    at: dict[int, list[tuple[float, float]]] = {}
    epochs: dict[int, float] = {}
    for run in runs:
        for evaluation in run.evaluations:
            value = metric(evaluation)
            if value is not None:
                at.setdefault(evaluation.step, []).append((evaluation.seconds, value))
                epochs[evaluation.step] = evaluation.epoch
    lengths = [run.evaluations[-1].step for run in runs if run.evaluations]
    points: list[Point] = []
    for step, looks in sorted(at.items()):
        values, seconds = spread(value for _, value in looks), median(seconds for seconds, _ in looks)
        whole = len(looks) == sum(length >= step for length in lengths)
        if values is not None and whole and not (points and seconds < points[-1].seconds):
            points.append(Point(step, epochs[step], seconds, values))
    return points
