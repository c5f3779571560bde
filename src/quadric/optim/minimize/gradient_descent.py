"""Gradient descent."""

from __future__ import annotations

from collections.abc import Iterator

from quadric.optim.line_search import armijo
from quadric.optim.minimize.fixed_rate import fixed_rate
from quadric.optim.minimize.function import Point, Ray
from quadric.optim.minimize.run import Iterate, Stopped


def gradient_descent(start: Point, *, learning_rate: float | None = None, c1: float = 1e-4) -> Iterator[Iterate]:
    """x ← x − η g, with η given, or found at each step.

    With `learning_rate=None` η is found by backtracking to a sufficient decrease, from sᵀs / sᵀy of the last step s and
    its change of the gradient y (Barzilai and Borwein 1988), or from twice the last η where sᵀy ≤ 0.
    """
    return _by_backtracking(start, c1) if learning_rate is None else fixed_rate(start, learning_rate, 0.0)


def _by_backtracking(start: Point, c1: float) -> Iterator[Iterate]:
    point, rate = start, 0.0
    yield Iterate(point)
    while True:
        g = point.gradient
        first = rate or min(1.0, 1 / float(g.norm()))
        ray = Ray(point, -g)
        search = armijo(ray.value, point.value, ray.slope, first=first, c1=c1, noise=point.noise)
        if not search.alpha > 0:
            raise Stopped(f"the line search failed: {search.reason}")
        new = ray.at(search.alpha)
        s, y = new.x - point.x, new.gradient - g
        curvature = float(s @ y)
        rate = float(s @ s) / curvature if curvature > 0 else 2 * search.alpha
        point = new
        yield Iterate(point)
