"""SR1 in a trust region, which lets its matrix be indefinite."""

from __future__ import annotations

import math
from collections.abc import Iterator

from quadric.linalg.limits import EXACT_BELOW
from quadric.linalg.steihaug import steihaug
from quadric.linalg.trust_exact import trust_exact
from quadric.linalg.trust_region_step import TrustRegionStep
from quadric.operators import LinearOperator
from quadric.operators.secant import SR1
from quadric.optim.minimize.function import Point
from quadric.optim.minimize.run import Iterate
from quadric.optim.minimize.trust_region import Model, trust_region


class _Secant(Model):
    """B by the dual SR1 update: the class approximates an inverse, and exchanging s and y makes it B itself."""

    def __init__(self, start: Point) -> None:
        self.matrix = SR1(start.function.space)

    def minimiser(self, point: Point, radius: float) -> TrustRegionStep:
        if point.function.n <= EXACT_BELOW:
            return trust_exact(self.matrix.to_dense(), point.gradient, radius)
        return steihaug(self.matrix, point.gradient, radius)

    def observe(self, old: Point, new: Point) -> None:
        if not new.finite:
            return
        s, y = new.x - old.x, new.gradient - old.gradient
        slope = float(s @ y)
        if self.matrix.accepted == 0 and slope > 0:
            self.matrix = SR1(self.matrix.space, initial=float(y @ y) / slope)
        self.matrix.update(y, s)

    def hessian(self) -> LinearOperator:
        return self.matrix


def sr1(
    start: Point, *, initial_trust_radius: float = 1.0, max_trust_radius: float = math.inf, eta: float = 1e-3
) -> Iterator[Iterate]:
    """B ← B + (y − Bs)(y − Bs)ᵀ / (y − Bs)ᵀs after every trial (Nocedal and Wright 2006, algorithm 6.2).

    B begins at yᵀy / sᵀy of the first pair. Cost an iteration: n² numbers, O(n³) up to n = 2,000.
    """
    return trust_region(start, _Secant(start), initial_trust_radius, max_trust_radius, eta)
