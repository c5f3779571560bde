"""A search over methods: sequential halving over their settings, then the leaders again with fresh seeds.

The runs of the search are divided evenly over rungs, and those of a rung evenly over the methods in it. Who goes on to
the next rung are the better half, by the best setting so far. The last few are the finalists: each is run again with
its best setting and seeds that the search has not seen, and only these runs decide.

Reference: Karnin, Koren, Somekh (2013), "Almost optimal exploration in multi-armed bandits".
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from quadric.bench.search.folds import FIRST_SEED
from quadric.bench.search.records import Trial
from quadric.bench.search.study import Study
from quadric.bench.search.trials import Outcome, Task, evaluate

FINALISTS = 3


@dataclass(frozen=True)
class Rung:
    """So many methods get so many tries each."""

    methods: int
    tries: int


@dataclass(frozen=True)
class Plan:
    """Rungs of falling size; then the finalists, each run again with `repeats` seeds."""

    rungs: tuple[Rung, ...]
    finalists: int
    repeats: int

    @property
    def runs(self) -> int:
        """All runs together."""
        return sum(rung.methods * rung.tries for rung in self.rungs) + self.finalists * self.repeats

    @property
    def seeds(self) -> range:
        """The seeds of the finals, none of which the search has."""
        return range(FIRST_SEED + 1, FIRST_SEED + 1 + self.repeats)


def fewest(methods: int, repeats: int) -> int:
    """The runs that a search over so many methods needs: one of each, and the finals."""
    return methods + min(FINALISTS, methods) * repeats


def planned(methods: int, runs: int, repeats: int) -> Plan:
    """How at most `runs` runs are used. Raises ValueError where they are fewer than one of each and the finals."""
    if runs < fewest(methods, repeats):
        raise ValueError(
            f"A try of each of {methods} methods and {repeats} repeats of {min(FINALISTS, methods)} finalists take "
            f"{fewest(methods, repeats)} runs, and there is room for {runs}."
        )
    sizes = [methods]
    while sizes[-1] > FINALISTS:
        sizes.append(max(FINALISTS, math.ceil(sizes[-1] / 2)))
    left = runs - sizes[-1] * repeats
    rungs: list[Rung] = []
    for position, size in enumerate(sizes):
        tries = max(left // (len(sizes) - position) // size, 0 if position else 1)
        rungs.append(Rung(size, tries))
        left -= size * tries
    return Plan(tuple(rungs), sizes[-1], repeats)


@dataclass(frozen=True)
class Contender:
    """A method of the search: what it is judged on, and the study of its settings."""

    task: Task
    study: Study


def best(trials: Sequence[Trial]) -> Trial | None:
    """The trial with the lowest metric; `None` where none finished."""
    return min((trial for trial in trials if trial.scores), key=lambda trial: trial.value, default=None)


def leaders(contenders: Mapping[str, Contender], names: Sequence[str], tries: int) -> list[str]:
    """`names` by the best of their first `tries` settings, the lowest metric first."""

    def value(name: str) -> float:
        found = best(contenders[name].study.trials[:tries])
        return math.inf if found is None else found.value

    return sorted(names, key=value)


def search(contenders: Mapping[str, Contender], plan: Plan) -> Iterator[Outcome]:
    """Make the tries of the rungs that the studies lack, in turns, and yield after each."""
    live, done = list(contenders), 0
    for rung in plan.rungs:
        live = leaders(contenders, live, done)[: rung.methods]
        for count in range(done, done + rung.tries):
            for name in live:
                if len(contenders[name].study.trials) <= count:
                    yield contenders[name].study.attempt(contenders[name].task)
        done += rung.tries


def finalists(contenders: Mapping[str, Contender], plan: Plan) -> dict[str, dict[str, Any]]:
    """Those of the last rung with their best settings, once all rungs are done. Who has none that finished is out."""
    live, done = list(contenders), 0
    for rung in plan.rungs:
        live = leaders(contenders, live, done)[: rung.methods]
        done += rung.tries
    found = {name: best(contenders[name].study.trials[:done]) for name in leaders(contenders, live, done)}
    return {name: trial.hyper for name, trial in found.items() if trial is not None}


def finals(
    contenders: Mapping[str, Contender],
    settings: Mapping[str, dict[str, Any]],
    plan: Plan,
    over: Collection[tuple[str, int]] = (),
) -> Iterator[tuple[str, int, Outcome]]:
    """Run the finalists with every fresh seed that is not `over`; who goes first changes from seed to seed."""
    names = list(settings)
    for position, seed in enumerate(plan.seeds):
        first = position % len(names)
        for name in (*names[first:], *names[:first]):
            if (name, seed) not in over:
                task = contenders[name].task
                task = replace(task, judging=replace(task.judging, first=seed))
                yield name, seed, evaluate(task, settings[name], to_the_end)


def to_the_end(step: int, value: float) -> bool:
    """No run of the finals is given up."""
    return False
