"""Trust region with its subproblem solved exactly, on the whole Hessian."""

from __future__ import annotations

import math
from collections.abc import Iterator

from quadric.linalg.trust_exact import in_eigenbasis
from quadric.linalg.trust_region_step import TrustRegionStep
from quadric.optim.minimize.function import Point
from quadric.optim.minimize.run import Iterate
from quadric.optim.minimize.trust_region import Model, trust_region


class _Whole(Model):
    exact = True
    spectrum = True
    leaves_saddles = True

    def minimiser(self, point: Point, radius: float) -> TrustRegionStep:
        values, vectors = point.eigen
        return in_eigenbasis(values, vectors, vectors.T @ point.gradient, radius)


def trust_exact(
    start: Point, *, initial_trust_radius: float = 1.0, max_trust_radius: float = math.inf, eta: float = 0.15
) -> Iterator[Iterate]:
    """Newton's model in a ball, minimised exactly (Moré and Sorensen 1983); leaves stationary points that are saddles.

    Cost an iteration: the Hessian and its eigenvectors, O(n³); a rejected step costs one evaluation of f more.
    """
    return trust_region(start, _Whole(), initial_trust_radius, max_trust_radius, eta)
