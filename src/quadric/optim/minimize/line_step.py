"""One step along a direction by a line search, as the line-search methods of `minimize` take it."""

from __future__ import annotations

from torch import Tensor

from quadric.optim.line_search import LineSearch, strong_wolfe
from quadric.optim.line_search.search import UNBOUNDED
from quadric.optim.minimize.function import Point, Ray
from quadric.optim.minimize.run import DIVERGED, Stopped, stalled


def wolfe_step(
    point: Point, direction: Tensor, *, first: float = 1.0, c1: float = 1e-4, c2: float = 0.9
) -> tuple[Point | None, LineSearch]:
    """The point that a strong Wolfe search along `direction` finds, or the lowest it saw; None where none was lower.

    Raises Stopped where f falls without end.
    """
    ray = Ray(point, direction)
    search = strong_wolfe(ray, point.value, ray.slope, first=first, c1=c1, c2=c2, noise=point.noise)
    new = ray.at(search.alpha) if search.alpha > 0 else None
    if search.reason is UNBOUNDED:
        raise Stopped(search.reason, DIVERGED, new)
    return new, search


def failed(search: LineSearch, point: Point, newton: Tensor | None = None) -> Stopped:
    """What to raise where no direction is left to try; `newton` is a step to the minimum of the exact model."""
    promise = None if newton is None else -0.5 * float(point.gradient @ newton)
    return stalled(f"the line search failed: {search.reason}", point, promise)
