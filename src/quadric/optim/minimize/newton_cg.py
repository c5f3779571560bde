"""Newton-CG: truncated conjugate gradients on Newton's equation, by Hessian products alone."""

from __future__ import annotations

from collections.abc import Iterator

from quadric.linalg.steihaug import steihaug
from quadric.optim.minimize.function import Point
from quadric.optim.minimize.line_step import failed, wolfe_step
from quadric.optim.minimize.run import Iterate


def newton_cg(start: Point, *, c1: float = 1e-4, c2: float = 0.9) -> Iterator[Iterate]:
    """Line-search Newton–CG (Nocedal and Wright 2006, algorithm 7.1).

    CG stops at ‖g + Hp‖ ≤ min(½, √‖g‖) ‖g‖, or with a direction of negative curvature, which it takes as if the
    curvature were positive. A strong Wolfe search takes the step.
    """
    point = start
    yield Iterate(point)
    while True:
        new, search = wolfe_step(point, steihaug(point.hessian, point.gradient).step, c1=c1, c2=c2)
        if new is None:  # a truncated step may be too poor to gain anything on an ill-conditioned Hessian
            accurate = steihaug(point.hessian, point.gradient, tol=1e-10)
            new, search = wolfe_step(point, accurate.step, c1=c1, c2=c2)
        if new is None:
            raise failed(search, point)
        point = new
        yield Iterate(point)
