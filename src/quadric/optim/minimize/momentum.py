"""Gradient descent with momentum (the heavy ball)."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from quadric.optim.minimize.fixed_rate import fixed_rate
from quadric.optim.minimize.function import Point
from quadric.optim.minimize.run import Iterate, Stopped


def momentum(start: Point, *, learning_rate: float | None = None, momentum: float = 0.9) -> Iterator[Iterate]:
    """z ← ρ z − η g, x ← x + z (Polyak 1964), with ρ `momentum`.

    With `learning_rate=None` f never rises: a step that would raise it is not taken and z begins anew at zero, and η is
    halved where z was zero already (after O'Donoghue and Candès 2015, section 3.2); η grows by a tenth a step.
    """
    if not 0 <= momentum < 1:
        raise ValueError(f"Expected 0 ≤ momentum < 1, got {momentum}.")
    if learning_rate is None:
        return _descending(start, momentum)
    return fixed_rate(start, learning_rate, momentum)


def _descending(start: Point, rho: float) -> Iterator[Iterate]:
    point, z = start, torch.zeros_like(start.x)
    rate = min(1.0, 1 / float(start.gradient.norm())) if start.largest else 1.0
    yield Iterate(point)
    while True:
        step = rho * z - rate * point.gradient
        trial = point.function.at(point.x + step)
        if trial.value <= point.value and trial.finite:
            point, z, rate = trial, step, 1.1 * rate
            yield Iterate(point)
        elif bool(z.any()):
            z = torch.zeros_like(z)
        else:
            rate *= 0.5
            if rate * float(point.gradient.square().sum()) <= point.noise:
                raise Stopped("no step along −g lowers f by more than its rounding error")
