"""The record of a search: JSON lines, a header, a line for each trial as it finishes, and importances at each end."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import sqrt
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from scipy.special import stdtrit

from quadric.bench.continuation import Moved, differences
from quadric.core.records import Layout

LAYOUT = Layout("tuning", 1, "run it again with --overwrite")


@dataclass(frozen=True)
class Trial:
    """One setting: the metric at the end of each of its runs, none unless its `status` is "finished"."""

    number: int
    hyper: dict[str, Any]
    status: str
    reason: str
    seconds: float
    scores: list[float] = field(default_factory=list)

    @property
    def value(self) -> float:
        """The mean over runs."""
        return fmean(self.scores)

    @property
    def error(self) -> float | None:
        """The standard error of the mean over runs; `None` for a single one."""
        return stdev(self.scores) / sqrt(len(self.scores)) if len(self.scores) > 1 else None


@dataclass(frozen=True)
class Found:
    """What a record holds. `importance` has a share for each hyper-parameter, and is empty where it is not known.

    `environments` says where it was begun, and where it went on.
    """

    header: dict[str, Any]
    trials: list[Trial]
    importance: dict[str, float]
    damage: str | None = None
    environments: list[dict[str, str]] = field(default_factory=list)

    @property
    def finished(self) -> list[Trial]:
        """The trials that were judged, the best first."""
        return sorted((trial for trial in self.trials if trial.scores), key=lambda trial: trial.value)

    @property
    def equals(self) -> list[Trial]:
        """The best, and those that the same runs do not tell from it; with a single run the best is alone."""
        best, *others = self.finished
        return [best, *(trial for trial in others if not worse(trial, best))]


def worse(trial: Trial, best: Trial) -> bool:
    """Whether a paired t-test over the runs, at the 5 % level for both sides together, tells `trial` from `best`."""
    gaps = [b - a for a, b in zip(best.scores, trial.scores, strict=True)]
    if len(gaps) < 2:
        return fmean(gaps) > 0
    return fmean(gaps) > float(stdtrit(len(gaps) - 1, 0.975)) * stdev(gaps) / sqrt(len(gaps))


def read(path: Path) -> Found:
    """A record file of a search; a last line that is cut off is left out. Raises ValueError where it cannot be read."""
    header = LAYOUT.read_header(path, dict)
    lines, damage = LAYOUT.read_lines(path, made)
    trials = [each for each in lines if isinstance(each, Trial)]
    shares = [each for each in lines if isinstance(each, dict)]
    return Found(header, trials, shares[-1] if shares else {}, damage, environments(header, lines))


def environments(header: dict[str, Any], lines: Sequence[object]) -> list[dict[str, str]]:
    """Where a search was begun, and where it went on."""
    return [header.get("environment", {}), *(each.environment for each in lines if isinstance(each, Moved))]


def made(values: dict[str, Any]) -> Trial | Moved | dict[str, float]:
    """A line's trial, where the search went on, or its importances."""
    kind = values.pop("kind")
    if kind == "moved":
        return Moved(**values)
    if kind == "importance":
        return {str(name): float(share) for name, share in values["shares"].items()}
    if kind != "trial":
        raise ValueError(f"unknown kind {kind!r}")
    return Trial(**values)


def check_same(place: str, old: Mapping[str, Any], new: Mapping[str, Any]) -> None:
    """Raise ValueError unless both describe the same search."""
    differs = differences(old, new)
    if differs:
        raise ValueError(
            f"{place} holds another search: {differs}. Give the options it was begun with, or name another place."
        )
