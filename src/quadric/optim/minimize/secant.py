"""BFGS, DFP and L-BFGS: a line search along −H g, with H the secant approximation of the inverse Hessian."""

from __future__ import annotations

from collections.abc import Iterator

from quadric.operators.secant import BFGS, DFP, Secant
from quadric.optim.minimize.function import Point
from quadric.optim.minimize.line_step import failed, wolfe_step
from quadric.optim.minimize.run import Iterate


def bfgs(start: Point, *, c1: float = 1e-4, c2: float = 0.9) -> Iterator[Iterate]:
    """BFGS with a strong Wolfe line search (Nocedal and Wright 2006, algorithm 6.1)."""
    return secant(start, BFGS(start.function.space), c1, c2)


def dfp(start: Point, *, c1: float = 1e-4, c2: float = 0.1) -> Iterator[Iterate]:
    """DFP, whose matrix recovers slowly from bad steps and so wants an accurate line search (section 6.1)."""
    return secant(start, DFP(start.function.space), c1, c2)


def l_bfgs(start: Point, *, memory: int = 10, c1: float = 1e-4, c2: float = 0.9) -> Iterator[Iterate]:
    """BFGS on the last `memory` pairs (algorithm 7.5): 2 n·memory numbers."""
    return secant(start, BFGS(start.function.space, memory=memory), c1, c2)


def secant(start: Point, inverse: Secant, c1: float, c2: float) -> Iterator[Iterate]:
    """x ← x − α H g. Where the line search fails, H is forgotten once and −g is tried."""
    point = start
    yield Iterate(point, inverse)
    while True:
        direction = -(inverse @ point.gradient)
        fresh = inverse.accepted == 0
        first = min(1.0, 1 / float(point.gradient.norm())) if fresh else 1.0
        new, search = wolfe_step(point, direction, first=first, c1=c1, c2=c2)
        if new is None:
            if fresh:
                raise failed(search, point)
            inverse.reset()
            continue
        inverse.update(new.x - point.x, new.gradient - point.gradient)
        point = new
        yield Iterate(point, inverse)
