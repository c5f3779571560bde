"""Times of several callables against a baseline, interleaved in one process.

A machine's speed drifts. So every round times every task once and the baseline three times, in an order drawn anew,
and a task's ratio is taken against the median baseline of the same round; what is reported is the median of those
ratios and their quartiles.
"""

from __future__ import annotations

import gc
import math
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from statistics import median, quantiles
from time import perf_counter

BASELINES_PER_ROUND = 3


@dataclass(frozen=True)
class Task:
    """Something to time.

    run: one call, whose result is dropped within the time.
    prepare: done before each measurement, not timed.
    multiple: calls are timed in multiples of this (a method that does extra work every fifth step needs 5).
    """

    name: str
    run: Callable[[], object]
    prepare: Callable[[], object] | None = None
    multiple: int = 1


@dataclass
class Outcome:
    """Seconds per call and ratio to the baseline, one entry per round; or the reason why there are none."""

    name: str
    seconds: list[float] = field(default_factory=list)
    ratios: list[float] = field(default_factory=list)
    calls: int = 0
    crash: str | None = None

    def summary(self) -> dict[str, object]:
        """Medians and quartiles, as plain numbers."""
        if self.crash is not None:
            return {"crash": self.crash}
        low, high = _quartiles(self.ratios)
        return {
            "ratio": median(self.ratios),
            "ratio_quartiles": [low, high],
            "milliseconds": 1e3 * median(self.seconds),
            "milliseconds_quartiles": [1e3 * s for s in _quartiles(self.seconds)],
            "rounds": len(self.ratios),
            "calls_per_round": self.calls,
        }


def reason(error: Exception) -> str:
    """One line that says what went wrong."""
    first = next((line.strip() for line in str(error).splitlines() if line.strip()), "")
    return f"{type(error).__name__}: {first}"[:160].strip()


def interleave(
    baseline: Task, tasks: list[Task], *, rounds: int, warm_up: int = 2, min_seconds: float = 0.05, seed: int = 0
) -> list[Outcome]:
    """Time the baseline and the tasks in rounds.

    Each measurement lasts at least min_seconds, by as many calls as that takes. A task that raises is dropped from
    then on, and its outcome says why; an error of the baseline is raised. The baseline's outcome comes first.
    """
    if rounds < 1:
        raise ValueError(f"expected at least one round, got {rounds}")
    outcomes = {id(task): Outcome(task.name) for task in (baseline, *tasks)}
    running = [task for task in (baseline, *tasks) if _calibrate(task, outcomes[id(task)], warm_up, min_seconds)]
    if outcomes[id(baseline)].crash is not None:
        raise RuntimeError(f"the baseline {baseline.name!r} failed: {outcomes[id(baseline)].crash}")
    order = random.Random(seed)
    for _ in range(rounds):
        turns = running + [baseline] * (BASELINES_PER_ROUND - 1)
        order.shuffle(turns)
        seconds: dict[int, list[float]] = {}
        for task in turns:
            try:
                seconds.setdefault(id(task), []).append(_measure(task, outcomes[id(task)].calls))
            except Exception as error:
                if task is baseline:
                    raise
                outcomes[id(task)].crash = reason(error)
                running.remove(task)
                del seconds[id(task)]
        unit = median(seconds[id(baseline)])
        for key, values in seconds.items():
            outcomes[key].seconds.append(median(values))
            outcomes[key].ratios.append(median(values) / unit)
    return list(outcomes.values())


def _calibrate(task: Task, outcome: Outcome, warm_up: int, min_seconds: float) -> bool:
    """Warm the task up and set its number of calls per measurement; False if it fails."""
    try:
        once = min(_measure(task, task.multiple) for _ in range(max(1, warm_up)))
    except Exception as error:
        outcome.crash = reason(error)
        return False
    outcome.calls = task.multiple * max(1, math.ceil(min_seconds / (once * task.multiple)))
    return True


def _measure(task: Task, calls: int) -> float:
    """Seconds per call: the median over blocks of `multiple` calls, the garbage collector kept out."""
    if task.prepare is not None:
        task.prepare()
    gc.collect()
    gc.disable()
    blocks = []
    try:
        for _ in range(calls // task.multiple):
            start = perf_counter()
            for _ in range(task.multiple):
                task.run()
            blocks.append((perf_counter() - start) / task.multiple)
    finally:
        gc.enable()
    return median(blocks)


def _quartiles(values: list[float]) -> tuple[float, float]:
    if len(values) < 2:
        return values[0], values[0]
    low, _, high = quantiles(values, n=4, method="inclusive")
    return low, high
