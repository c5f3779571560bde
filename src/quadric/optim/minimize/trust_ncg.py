"""Trust region with Steihaug's conjugate gradients: by Hessian products alone."""

from __future__ import annotations

import math
from collections.abc import Iterator

from quadric.linalg.steihaug import steihaug
from quadric.linalg.trust_region_step import TrustRegionStep
from quadric.optim.minimize.function import Point
from quadric.optim.minimize.run import Iterate
from quadric.optim.minimize.trust_region import Model, trust_region


class _Products(Model):
    def minimiser(self, point: Point, radius: float) -> TrustRegionStep:
        return steihaug(point.hessian, point.gradient, radius)


def trust_ncg(
    start: Point, *, initial_trust_radius: float = 1.0, max_trust_radius: float = math.inf, eta: float = 0.15
) -> Iterator[Iterate]:
    """Newton's model in a ball, minimised by `linalg.steihaug` (Nocedal and Wright 2006, algorithms 4.1 and 7.2)."""
    return trust_region(start, _Products(), initial_trust_radius, max_trust_radius, eta)
