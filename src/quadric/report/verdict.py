"""Who won, by what factor, and whether the seeds allow saying so: a paragraph from a record.

Two methods are told apart by the exact rank-sum test (Wilcoxon 1945; Mann and Whitney 1947) on their seeds' steps, or
seconds, to the target, with misses last and 5 % on either side. Three seeds pass it only where they do not overlap.
Seeds share their start and their data, which correlates the methods and makes the test cautious, not bold.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import comb, inf, isfinite
from statistics import median
from typing import Literal

from quadric.bench.records import Record, Run
from quadric.report.summary import entries

LEVEL = 0.1
"""The largest p, of both sides together, with which two methods are told apart."""
FEWEST = 3
"""Seeds that this takes at least."""
RULE = (
    f"Methods are told apart by an exact rank-sum test over seeds, misses last, at p ≤ {LEVEL:g} (5 % on either side), "
    f"which takes {FEWEST} seeds at least; one pair in ten equal ones passes it by chance."
)
Measure = Literal["steps", "seconds"]
MEASURES: tuple[Measure, ...] = ("steps", "seconds")


@dataclass(frozen=True)
class Duel:
    """One method against another: the factor by which its median is ahead (below 1: behind), and the test's p.

    p is `None` where there are too few seeds to test.
    """

    rival: str
    factor: float
    p: float | None

    @property
    def won(self) -> bool:
        """Whether it is ahead and the seeds allow saying so."""
        return self.p is not None and self.p <= LEVEL and self.factor > 1

    @property
    def lost(self) -> bool:
        """Whether it is behind and the seeds allow saying so."""
        return self.p is not None and self.p <= LEVEL and self.factor < 1


def rank_sum(first: Sequence[float], second: Sequence[float]) -> float:
    """The two-sided p of the exact rank-sum test: how often a random split has rank sums as far apart.

    Equal values share their mean rank. Counts subsets by their rank sum, so costs (m + n)³ small numbers. 1 where
    either is empty.
    """
    together = sorted([*first, *second])
    ends = {value: (together.index(value), together.count(value)) for value in together}
    ranks = {value: 2 * start + count + 1 for value, (start, count) in ends.items()}  # twice the mean rank
    size, total = len(first), len(together)
    ways: list[dict[int, int]] = [{0: 1}, *({} for _ in range(size))]
    for value in together:
        for chosen in range(size, 0, -1):
            for rank, number in ways[chosen - 1].items():
                ways[chosen][rank + ranks[value]] = ways[chosen].get(rank + ranks[value], 0) + number
    middle = size * (total + 1)
    off = abs(sum(ranks[value] for value in first) - middle)
    return float(Fraction(sum(n for rank, n in ways[size].items() if abs(rank - middle) >= off), comb(total, size)))


def times(runs: Sequence[Run], measure: Measure) -> list[float]:
    """Steps or seconds to the target, infinite for misses; runs that were interrupted before are left out."""
    reached = [run.reached for run in runs if run.reached or run.end]
    return [inf if event is None else event.step if measure == "steps" else event.seconds for event in reached]


def duel(own: Sequence[float], rival: str, other: Sequence[float]) -> Duel:
    """One method's times against a rival's."""
    p = rank_sum(own, other) if min(len(own), len(other)) >= FEWEST else None
    mine, theirs = (median(values) if values else inf for values in (own, other))
    factor = 1.0 if mine == theirs else inf if mine == 0 else theirs / mine if isfinite(mine) else 0.0
    return Duel(rival, factor, p)


def verdict(record: Record) -> str:
    """Who won in steps and in seconds; then, a line each, what every method that runs as it is won and lost."""
    present = entries(record)
    if len(present) < 2:
        return ""
    found: dict[Measure, dict[str, list[float]]] = {
        measure: {entry["name"]: times(record.runs_of(entry["name"]), measure) for entry in present}
        for measure in MEASURES
    }
    lines = [" ".join(winner(measure, by_name) for measure, by_name in found.items())]
    if any(isfinite(value) for values in found["steps"].values() for value in values):
        untuned = [entry["name"] for entry in present if entry["track"] == "self-tuning"]
        lines += [" ".join(account(name, measure, found[measure]) for measure in MEASURES) for name in untuned]
    return "\n".join([*lines, RULE])


def winner(measure: Measure, by_name: dict[str, list[float]]) -> str:
    """The winner, if there is one, or who can't be told apart from the leader."""
    order = sorted(by_name, key=lambda name: median(by_name[name]) if by_name[name] else inf)
    leader = order[0]
    if not by_name[leader] or not isfinite(best := median(by_name[leader])):
        return f"In {measure} nobody won: no method reached the target with most of its seeds."
    duels = [duel(by_name[leader], name, by_name[name]) for name in order[1:]]
    opened = [each for each in duels if not each.won]
    lead = f"{leader} {'won' if not opened else 'led'} with a median of {amount(best, measure)}"
    seeds = f"{len(by_name[leader])} seed{'' if len(by_name[leader]) == 1 else 's'}"
    if opened:
        return (
            f"In {measure} there is no winner: {lead}, but {seeds} do not tell it apart from "
            f"{listed([f'{each.rival} ({chance(each)})' for each in opened])}."
        )
    second = duels[0]
    if not isfinite(second.factor):
        return f"In {measure} {lead}; no other reached the target with most of its {seeds} ({chance(second)})."
    next_one = f"{ratio(second.factor)} ahead of {second.rival}, the next"
    return f"In {measure} {lead}, {next_one} ({chance(second)}, {seeds})."


def account(name: str, measure: Measure, by_name: dict[str, list[float]]) -> str:
    """What one method won, lost, and what stays open."""
    duels = [duel(by_name[name], rival, values) for rival, values in by_name.items() if rival != name]
    parts = [
        ("won against", [f"{each.rival} ({ratio(each.factor)})" for each in duels if each.won]),
        (
            "lost against",
            [
                f"{each.rival} ({ratio(1 / each.factor) if each.factor else 'by missing'})"
                for each in duels
                if each.lost
            ],
        ),
        ("undecided against", [f"{each.rival} ({chance(each)})" for each in duels if not each.won | each.lost]),
    ]
    return f"{name} in {measure}: " + "; ".join(f"{what} {listed(who)}" for what, who in parts if who) + "."


def chance(each: Duel) -> str:
    """The test's p."""
    return "too few seeds" if each.p is None else f"p = {each.p:.2g}"


def ratio(factor: float) -> str:
    """A factor, or that the other missed."""
    return f"{factor:.2g}×" if isfinite(factor) else "which missed"


def amount(value: float, measure: Measure) -> str:
    """Steps or seconds with their unit."""
    return f"{value:,.0f} step{'' if value == 1 else 's'}" if measure == "steps" else f"{value:.3g} s"


def listed(words: Sequence[str]) -> str:
    """Words as in a sentence."""
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"
