"""The space of a search: a range or a few choices for each hyper-parameter, as it is typed."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count, product
from typing import Any

from quadric.core.literal import Literal, literal

FORMS = "lr=0.1:1, damping=log:1e-4:1, rank=int:5:50, structure=full|diagonal, or curvature=hessian to fix one"


@dataclass(frozen=True)
class Range:
    """Numbers from `low` to `high`, both included; evenly spread logarithms with `log`, whole numbers with `whole`."""

    name: str
    low: float
    high: float
    log: bool = False
    whole: bool = False

    def __str__(self) -> str:
        kind = "log:" if self.log else "int:" if self.whole else ""
        low, high = self.ends
        return f"{kind}{low}:{high}"

    @property
    def ends(self) -> list[Literal]:
        """The lowest and the highest value."""
        return [int(self.low), int(self.high)] if self.whole else [self.low, self.high]

    def rounded(self, value: float) -> float:
        """The number of four digits next to a value, within the range."""
        return value if self.whole else min(max(float(f"{value:.4g}"), self.low), self.high)

    def share(self, value: float) -> float:
        """Where a value lies: 0 at the low end, 1 at the high one."""
        if self.log:
            return math.log(value / self.low) / math.log(self.high / self.low)
        return (value - self.low) / (self.high - self.low)

    def at(self, share: float) -> Literal:
        """The value that lies there; a whole number where the range has such."""
        if self.whole:
            return min(int(self.low + share * (self.high - self.low + 1)), int(self.high))
        return self.between(share)

    def between(self, share: float) -> float:
        """The number at that share of the way from low to high."""
        return self.low * (self.high / self.low) ** share if self.log else self.low + share * (self.high - self.low)

    def points(self, count: int) -> list[Literal]:
        """`count` evenly spaced values from end to end; fewer where there are not so many whole numbers."""
        inner = [self.between(i / (count - 1)) for i in range(1, count - 1)]
        if self.whole:
            return list(dict.fromkeys([int(self.low), *(round(value) for value in inner), int(self.high)]))
        return [self.low, *map(self.rounded, inner), self.high]


@dataclass(frozen=True)
class Choice:
    """One of a few values; a single one is a setting that stays fixed."""

    name: str
    values: tuple[Literal, ...]

    def __str__(self) -> str:
        return "|".join(map(str, self.values))

    @property
    def ends(self) -> list[Literal]:
        """Every value."""
        return list(self.values)

    def rounded(self, value: Literal) -> Literal:
        """The value itself."""
        return value

    def at(self, share: float) -> Literal:
        """The value at that share of the list."""
        return self.values[min(int(share * len(self.values)), len(self.values) - 1)]

    def points(self, count: int) -> list[Literal]:
        """Every value, whatever `count` is."""
        return list(self.values)


Dimension = Range | Choice


def parse(text: str) -> list[Dimension]:
    """The space that `text` describes: name=range or name=choices, with commas between them.

    Raises ValueError where there is none, a name comes twice, or a range is none.
    """
    parts = [part.strip() for part in text.split(",") if part.strip()]
    space = [dimension(part) for part in parts]
    names = [each.name for each in space]
    if all(len(each.ends) == 1 for each in space):
        raise ValueError(f"The space {text!r} has nothing to search. Expected something like {FORMS}.")
    twice = [name for name in names if names.count(name) > 1]
    if twice:
        raise ValueError(f"{twice[0]} is in the space twice; give each hyper-parameter one range or list of choices.")
    return space


def dimension(part: str) -> Dimension:
    """One hyper-parameter's range or choices. Raises ValueError where it is neither."""
    name, equals, rest = (piece.strip() for piece in part.partition("="))
    if not (name and equals and rest):
        raise ValueError(f"Expected name=range or name=choices, got {part!r}: {FORMS}.")
    if ":" not in rest:
        values = tuple(literal(value.strip()) for value in rest.split("|") if value.strip())
        if not values or len(set(values)) < len(values):
            raise ValueError(f"{name}: expected different choices with | between them, got {rest!r}.")
        return Choice(name, values)
    kind, ends = (rest.split(":")[0], rest.split(":")[1:]) if rest.count(":") == 2 else ("", rest.split(":"))
    try:
        low, high = (float(end) for end in ends)
    except ValueError:
        low = high = math.nan
    if kind not in ("", "log", "int") or not (math.isfinite(low) and math.isfinite(high)):
        raise ValueError(f"{name}: expected low:high, log:low:high or int:low:high with numbers, got {rest!r}.")
    if not low < high:
        raise ValueError(f"{name}: expected a range from low to high, got {low:g} to {high:g}.")
    if kind == "log" and low <= 0:
        raise ValueError(f"{name}: a logarithmic range needs positive ends, got {low:g} to {high:g}; leave log: out.")
    if kind == "int" and not (low.is_integer() and high.is_integer()):
        raise ValueError(f"{name}: expected whole numbers for the ends of int:, got {rest!r}.")
    return Range(name, low, high, log=kind == "log", whole=kind == "int")


def grid(space: list[Dimension], count: int) -> list[dict[str, Any]]:
    """Every combination of `count` points of each range and of all choices."""
    names = [each.name for each in space]
    return [dict(zip(names, values, strict=True)) for values in product(*(each.points(count) for each in space))]


def spread_out(space: list[Dimension], index: int) -> dict[str, Any]:
    """The setting of that index, from 0, of a sequence that fills the space evenly: Halton's.

    Digit j of the index + 1 in base b counts b^−(j+1), with the primes for bases, the smallest for what comes first in
    the space. Reference: Halton (1960), "On the efficiency of certain quasi-random sequences of points".
    """
    varied = (each for each in space if len(each.ends) > 1)
    shares = {each.name: radical_inverse(index + 1, base) for each, base in zip(varied, primes(), strict=False)}
    return {each.name: each.at(shares.get(each.name, 0.0)) for each in space}


def radical_inverse(number: int, base: int) -> float:
    """The digits of `number` mirrored at the point: 6 = 110 in base 2 gives 0.011 = 3/8."""
    share, unit = 0.0, 1.0
    while number:
        number, digit = divmod(number, base)
        unit /= base
        share += digit * unit
    return share


def primes() -> Iterator[int]:
    """2, 3, 5, 7, …"""
    for number in count(2):
        if all(number % smaller for smaller in range(2, number)):
            yield number


def extremes(space: list[Dimension]) -> list[dict[str, Any]]:
    """Settings that have every end and every choice between them, the other hyper-parameters at their first."""
    first = {each.name: each.ends[0] for each in space}
    return [first, *({**first, each.name: value} for each in space for value in each.ends[1:])]
