"""Steps of a fixed learning rate, with or without momentum, and what to say where it was too large or too small."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch

from quadric.optim.minimize.function import Point
from quadric.optim.minimize.run import DIVERGED, Iterate, Stopped

GROWTH = 1e10
"""f − f₀ beyond this many times max(|f₀|, 1) counts as divergence, as does a value that is not finite."""


def fixed_rate(start: Point, learning_rate: float, momentum: float) -> Iterator[Iterate]:
    """z ← ρ z − η g, x ← x + z."""
    if not (learning_rate > 0 and math.isfinite(learning_rate)):
        raise ValueError(f"Expected a finite learning_rate > 0, got {learning_rate}.")
    point, z = start, torch.zeros_like(start.x)
    history, sharpness = [start.largest], 0.0

    def outlook() -> str:
        return _outlook(history, learning_rate, momentum, sharpness, point, start)

    limit = start.value + GROWTH * max(abs(start.value), 1.0)
    yield Iterate(point, outlook=outlook)
    while True:
        z = momentum * z - learning_rate * point.gradient
        new = point.function.at(point.x + z)
        if not (new.value < limit and new.finite):
            found = new.value if math.isfinite(new.value) else math.inf
            raise Stopped(_divergence(start, found, len(history), learning_rate, momentum, sharpness), DIVERGED)
        sharpness = max(sharpness, float((new.gradient - point.gradient) @ z) / float(z @ z))
        point = new
        history.append(point.largest)
        yield Iterate(point, outlook=outlook)


def _divergence(start: Point, found: float, steps: int, learning_rate: float, momentum: float, sharpness: float) -> str:
    text = (
        f"the iteration diverged: f rose from {start.value:.6g} to {found:.3g} in {steps} steps of learning_rate = "
        f"{learning_rate:g}, which is too large"
    )
    if sharpness > 0:
        text += (
            f" for the curvature {sharpness:.3g} met along a step: below {stable_rate(momentum, sharpness):.3g} would "
            "be stable there"
        )
    return text + "; learning_rate=None finds step lengths by itself"


def stable_rate(momentum: float, sharpness: float) -> float:
    """Heavy-ball steps on a parabola of curvature L are stable for η < 2 (1 + ρ) / L."""
    return 2 * (1 + momentum) / sharpness


def _outlook(
    history: list[float], learning_rate: float, momentum: float, sharpness: float, point: Point, start: Point
) -> str:
    half = len(history) // 2
    if point.value > start.value:
        return f"f rose from {start.value:.6g} to {point.value:.6g}: learning_rate = {learning_rate:g} is too large."
    text = "The gradient does not shrink at this learning_rate."
    if half and 0 < history[-1] < history[half]:
        rate = (history[-1] / history[half]) ** (1 / (len(history) - 1 - half))
        text = f"At the rate of the last half of them, max |g| falls by {1 - rate:.2g} of itself a step: "
        text += (
            f"{math.ceil(math.log(10) / -math.log(rate)):,} more for each digit." if rate < 1 else "no end in sight."
        )
    if sharpness > 0:
        bound = stable_rate(momentum, sharpness)
        text += f" The largest curvature met along a step is {sharpness:.3g}, "
        text += (
            f"where steps of up to {bound:.3g} would be stable: learning_rate = {learning_rate:g} is small."
            if learning_rate < 0.25 * bound
            else f"where {bound:.3g} is the limit: the problem is ill-conditioned for this method."
        )
    return text
