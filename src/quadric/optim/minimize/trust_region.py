"""The trust-region iteration that its methods share: each says what its quadratic model is and how it is minimised."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator

import torch

from quadric.linalg.trust_region_step import TrustRegionStep
from quadric.operators import LinearOperator
from quadric.optim.minimize.function import Point
from quadric.optim.minimize.run import Iterate, Stopped, stalled

FARTHEST = -100.0
"""γ below this: the trial is so far from the model that it says nothing about the model's curvature."""


UNBOUNDED = 1e20
"""A radius beyond all steps; with negative curvature the model promises accordingly much."""


class Model(ABC):
    """m(p) = f + gᵀp + ½ pᵀBp near a point, and its minimiser over a ball (of the model's own norm).

    `exact` says that B is the Hessian (or JᵀJ) and its minimiser exact, so that a promise below rounding means a
    minimum.
    """

    exact = False
    spectrum = False
    leaves_saddles = False

    @abstractmethod
    def minimiser(self, point: Point, radius: float) -> TrustRegionStep:
        """The step; `length` in the model's norm."""

    def observe(self, old: Point, new: Point) -> None:
        """Learn from a trial, taken or not."""
        return

    def hessian(self) -> LinearOperator | None:
        """B, where the model keeps one."""
        return None


def trust_region(start: Point, model: Model, radius: float, max_radius: float, eta: float) -> Iterator[Iterate]:
    """Take the step if γ = actual / predicted reduction > η; Δ / 4 if γ < ¼, 2 Δ if γ > ¾ and the step reached Δ.

    Where both reductions are smaller than f's rounding error, γ says nothing and the smaller gradient decides.
    Reference: Nocedal and Wright (2006), algorithm 4.1; Conn, Gould and Toint (2000), section 17.4.
    """
    if not 0 <= eta < 0.25:
        raise ValueError(f"Expected 0 ≤ eta < 0.25, got {eta}.")
    if not 0 < radius <= max_radius:
        raise ValueError(f"Expected 0 < initial_trust_radius ≤ max_trust_radius, got {radius:g} and {max_radius:g}.")
    point, stuck = start, 0
    while True:
        yield Iterate(point, hessian=model.hessian(), spectrum=model.spectrum, leaves_saddles=model.leaves_saddles)
        solved = model.minimiser(point, radius)
        trial = point.function.at(point.x + solved.step)
        actual = point.value - trial.value
        level = solved.reduction <= point.noise and abs(actual) <= point.noise
        ratio = _ratio(point, trial, actual, solved.reduction, level)
        if ratio > FARTHEST:
            model.observe(point, trial)
        if not ratio >= 0.25:
            radius = 0.25 * min(radius, solved.length)
        elif ratio > 0.75 and solved.on_boundary:
            radius = min(2 * radius, max_radius)
        taken = ratio > eta and trial.finite
        stuck = 0 if taken and not level else stuck + 1
        if taken:
            point = trial
        elif level or radius <= 4 * torch.finfo(point.x.dtype).eps * float(point.x.norm()):
            promise = model.minimiser(point, UNBOUNDED).reduction if model.exact else None
            raise stalled("no step changes f by more than its rounding error", point, promise)
        if stuck > 30:
            raise Stopped("30 steps in a row did not lower f")


def _ratio(point: Point, trial: Point, actual: float, predicted: float, level: bool) -> float:
    if level:
        return 1.0 if trial.largest < point.largest else -1.0
    return actual / predicted if math.isfinite(actual) and predicted > 0 else -math.inf
