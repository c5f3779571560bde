"""Questions about C + λI that are passed on to the part of C that has a structure."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from quadric.operators.affine import take_apart
from quadric.operators.definiteness import NotPositiveDefinite
from quadric.operators.operator import LinearOperator


@dataclass(frozen=True)
class Shifted:
    """C + λI = factor · (base + shift · I) with factor > 0; `base` is None where it is a positive multiple of I."""

    factor: float
    base: LinearOperator | None
    shift: float

    @contextmanager
    def findings(self) -> Iterator[None]:
        """Within it, what is found out about base + shift · I is said of C + λI."""
        try:
            yield
        except NotPositiveDefinite as found:
            raise found.scaled(self.factor) from None


def shifted(operator: LinearOperator, damping: float) -> Shifted:
    """C + λI taken apart: sums with multiples of the identity go into the shift, positive multiples into the factor.

    Raises NotPositiveDefinite for a multiple of the identity that is not positive.
    """
    form = take_apart(operator)
    if form.base is None:
        value = form.shift + damping
        if not value > 0:
            raise NotPositiveDefinite(value, abs(value), operator.dtype)
        return Shifted(value, None, 0.0)
    if not form.factor > 0:
        return Shifted(1.0, operator, damping)
    return Shifted(form.factor, form.base, (form.shift + damping) / form.factor)


def check_damping(damping: float, name: str = "damping") -> None:
    """Raise ValueError unless λ is a finite number ≥ 0."""
    if not (isinstance(damping, float | int) and damping >= 0 and math.isfinite(damping)):
        raise ValueError(f"Expected a finite {name} ≥ 0, got {damping!r}.")
