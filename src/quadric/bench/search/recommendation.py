"""The record of a search over methods, and what it recommends: which method, how sure, and what ties with it.

The finalists ran with the same seeds, so they are compared pair by pair. That another is truly better than the leader
has the probability P(T > t) with t = mean(d)/se(d) over the differences d of the seeds, other less leader, and T of
Student's distribution with n − 1 degrees of freedom: what is believed of a normal mean without knowledge beforehand.
The leader is truly the best with a probability of 1 less the sum over the others, or more (Boole's inequality).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from math import sqrt
from pathlib import Path
from statistics import fmean, stdev
from typing import Any, Literal

from scipy.special import stdtr

from quadric.bench.continuation import Moved
from quadric.bench.search.halving import Plan, Rung
from quadric.bench.search.records import environments
from quadric.core.records import Layout

LAYOUT = Layout("auto", 1, "run it again with --overwrite")
DOUBT = 0.05
"""The probability of being better than the leader above which another ties with it."""


@dataclass(frozen=True)
class Attempt:
    """One run of a method: in the search, with the number of its trial, or in the finals, with its seed."""

    method: str
    stage: Literal["search", "final"]
    number: int
    hyper: dict[str, Any]
    status: str
    reason: str
    seconds: float
    score: float | None


@dataclass(frozen=True)
class Recommendation:
    """The leader of the finals; how sure it is the best of them; and the chance of those who may be better.

    With a single seed nothing is known of the spread: `sure` is 0.
    """

    method: str
    hyper: dict[str, Any]
    sure: float
    ties: dict[str, float]


@dataclass(frozen=True)
class Race:
    """What a record holds; `environments` says where it was begun, and where it went on."""

    header: dict[str, Any]
    attempts: list[Attempt]
    damage: str | None = None
    environments: list[dict[str, str]] = field(default_factory=list)

    @property
    def plan(self) -> Plan:
        """How the runs were to be used."""
        values = self.header["plan"]
        rungs = tuple(Rung(methods, tries) for methods, tries in values["rungs"])
        return Plan(rungs, values["finalists"], values["repeats"])

    @property
    def spaces(self) -> dict[str, str]:
        """The space of every method."""
        return dict(self.header["spaces"])

    def searched(self, method: str) -> list[Attempt]:
        """A method's runs of the search."""
        return [each for each in self.attempts if (each.method, each.stage) == (method, "search")]

    def repeated(self, method: str) -> list[Attempt]:
        """A method's runs of the finals, by seed."""
        own = [each for each in self.attempts if (each.method, each.stage) == (method, "final")]
        return sorted(own, key=lambda each: each.number)

    def best(self, method: str) -> Attempt | None:
        """A method's best run of the search; `None` where none finished."""
        finished = [each for each in self.searched(method) if each.score is not None]
        return min(finished, key=lambda each: each.score or 0.0, default=None)

    @property
    def order(self) -> list[str]:
        """The methods that were tried: finalists by their mean in the finals, then the others by their best."""

        def place(method: str) -> tuple[bool, float]:
            final, tried = self.repeated(method), self.best(method)
            value = fmean(scores(final)) if final else math.inf if tried is None or tried.score is None else tried.score
            return not final, value

        return sorted((method for method in self.spaces if self.searched(method)), key=place)

    @property
    def recommendation(self) -> Recommendation | None:
        """What is recommended, from the seeds that every finalist has run; `None` before there is such a seed."""
        names = [method for method in self.order if self.repeated(method)]
        shared = set.intersection(*({each.number for each in self.repeated(name)} for name in names)) if names else ()
        found = {name: scores([e for e in self.repeated(name) if e.number in shared]) for name in names}
        if not shared or all(math.isinf(fmean(values)) for values in found.values()):
            return None
        leader, *others = sorted(names, key=lambda name: fmean(found[name]))
        better = {name: chance(found[leader], found[name]) for name in others}
        return Recommendation(
            leader,
            self.repeated(leader)[0].hyper,
            max(0.0, 1 - sum(better.values())) if len(shared) > 1 else 0.0,
            {name: probability for name, probability in better.items() if probability > DOUBT},
        )


def scores(attempts: Sequence[Attempt]) -> list[float]:
    """The metric of each run; infinite where it diverged."""
    return [math.inf if each.score is None else each.score for each in attempts]


def chance(leader: Sequence[float], other: Sequence[float]) -> float:
    """The probability that `other` is truly lower than `leader`, run with the same seeds; ½ for a single one.

    0 where only `other` has diverged in some run.
    """
    if math.inf in other:
        return 0.5 if math.inf in leader else 0.0
    gaps = [b - a for a, b in zip(leader, other, strict=True)]
    if len(gaps) < 2:
        return 0.5
    error = stdev(gaps) / sqrt(len(gaps))
    if error == 0:
        return 0.5 if fmean(gaps) == 0 else float(fmean(gaps) < 0)
    return float(stdtr(len(gaps) - 1, -fmean(gaps) / error))


def read(path: Path) -> Race:
    """A record file of a search over methods; a last line that is cut off is left out.

    Raises ValueError where it cannot be read.
    """
    kinds: dict[str, type[Attempt | Moved]] = {"attempt": Attempt, "moved": Moved}
    header = LAYOUT.read_header(path, dict)
    lines, damage = LAYOUT.read_lines(path, lambda values: kinds[values.pop("kind")](**values))
    attempts = [each for each in lines if isinstance(each, Attempt)]
    return Race(header, attempts, damage, environments(header, lines))
