"""Whether what was interrupted may go on: the same comparison, and the same code, data and machine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from quadric.bench.records import Header, Record

CHANGES = frozenset({"date"})
"""What an environment names that differs from day to day and makes no difference."""


def check_same(directory: Path, record: Record, header: Header) -> None:
    """Raise ValueError unless `header` is of the same comparison: problem, optimisers with settings, and length."""
    old, new = (
        {
            "problem": each.problem["name"],
            **{key: value for key, value in each.problem.items() if key != "name"},
            "optimisers": each.optimizers,
            "epochs": each.epochs,
            "seconds": each.seconds,
        }
        for each in (record.header, header)
    )
    differs = differences(old, new)
    if differs:
        raise ValueError(
            f"{directory} holds another comparison: {differs}. Give the options it was begun with, or name another "
            "directory."
        )


@dataclass(frozen=True)
class Moved:
    """A search went on from here in another environment."""

    environment: dict[str, str]


def check_alike(directory: Path, environments: Sequence[Mapping[str, str]], environment: Mapping[str, str]) -> None:
    """Raise ValueError unless a record goes on where it was made last: the same code, data and machine."""
    differs = differences(environments[-1], environment)
    if differs:
        raise ValueError(
            f"{directory} was recorded elsewhere: {differs}. Numbers of different code, data or machines are not mixed "
            "in one record unless you say so: add --mix, and the report will say so too."
        )


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> str:
    """What differs, in words: "threads was 1 and is 2"; empty if nothing does."""
    names = [*old, *(name for name in new if name not in old)]
    return "; ".join(
        f"{name} was {short(old.get(name, 'not recorded'))} and is {short(new.get(name, 'not recorded'))}"
        for name in names
        if name not in CHANGES and old.get(name) != new.get(name)
    )


def short(value: Any) -> str:
    """A value in words; a list of optimisers by their names and settings."""
    if isinstance(value, list):
        return ", ".join(" ".join([each["name"], *map(setting, each["hyper"].items())]) for each in value)
    if isinstance(value, Mapping):
        return str(value.get("text", dict(value)))
    return str(value)


def setting(pair: tuple[str, Any]) -> str:
    """A hyper-parameter and its value."""
    name, value = pair
    return f"{name} {value:g}" if isinstance(value, float) else f"{name} {value}"


def mixtures(environments: Sequence[Mapping[str, str]]) -> list[str]:
    """A sentence for each time that a record went on in another environment."""
    return [
        f"Mixed: from {after.get('date', 'some date')} on, {differs}."
        for before, after in pairwise(environments)
        if (differs := differences(before, after))
    ]
