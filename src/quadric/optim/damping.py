"""How λ in C + λI is chosen and adapted.

A rule is asked before each step what it will want measured, then for λ, and after the step it learns from the ratio γ
of the actual to the predicted reduction on the same batch.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from quadric.optim.subspace import Local, Matrix


class Damping(ABC):
    """A rule for λ. Its fields are its state."""

    damped_prediction: ClassVar[bool] = True
    """Whether the predicted reduction includes λ."""
    bounded: ClassVar[bool] = False
    """Whether a step may promise no more than the loss has to lose, for losses that are never negative."""

    temper: ClassVar[float | None] = None
    """Δz = g + c Cz (+ λz) with c = min(1, temper · ‖∇ℓ‖ / ‖H_ℓ J z‖); None: c = 1."""

    @abstractmethod
    def wants_ratio(self, step: int) -> bool:
        """Whether γ is to be measured at this step (an extra forward pass)."""

    def wants_residual(self, step: int) -> bool:
        """Whether the residual of Newton's equation is to be measured at this step (extra reverse passes)."""
        return False

    @abstractmethod
    def choose(self, local: Local | None, residual: float | None, lr: float) -> float:
        """λ for this step, given the model on the step's subspace where it was computed, and η of the last step."""

    @abstractmethod
    def learn(self, ratio: float) -> None:
        """Take note of γ."""

    @abstractmethod
    def increase(self) -> None:
        """After a rejected step."""


@dataclass
class RatioDamping(Damping):
    """The paper's rule: λ ← λ / 0.999⁵ if γ < 0.5, λ ← λ · 0.999⁵ if γ > 1.5, at steps 0, 5, 10, …

    Henriques et al. (2019), section 3.2, after Levenberg and Marquardt. `adapt=False` keeps λ.
    """

    damping: float
    adapt: bool = True
    interval: int = 5
    factor: float = 0.999

    def wants_ratio(self, step: int) -> bool:
        """Every fifth step, from the first."""
        return self.adapt and step % self.interval == 0

    def choose(self, local: Local | None, residual: float | None, lr: float) -> float:
        """λ as it stands."""
        return self.damping

    def learn(self, ratio: float) -> None:
        """Raise λ where the model promised too much, lower it where it promised too little."""
        if not ratio >= 0.5:
            self.damping /= self.factor**self.interval
        elif ratio > 1.5:
            self.damping *= self.factor**self.interval

    def increase(self) -> None:
        """Ten times as much, unless λ is to stay."""
        if self.adapt:
            self.damping = max(10 * self.damping, 1e-8)


@dataclass
class ModelDamping(Damping):
    """λ = s · e · q: nothing to set, and the same steps whatever the loss is multiplied by.

    e is the largest eigenvalue of C in the step's subspace or its running mean, whichever is larger;
    q = ‖g + C y‖ / ‖g‖ is the share of Newton's equation that the subspace's undamped minimiser y leaves open.
    So λ vanishes where the subspace holds Newton's step, and is of the size of the curvature where it does not.

    s answers to two tests of the steps taken:

    - on the same batch, whether the loss obeys the model: s × 1.5 if γ < 1/4, s / 1.5 if γ > 3/4 (and the next test
      does not object), with γ from the undamped model;
    - on the next batch, whether the last step s was more than noise. That batch's model along s has its minimum at
      a = 1 − g′ᵀs / sᵀC′s before-steps from where s began: 1 if the new batch would take the same step, 0 if it would
      undo it. With a averaged over batches (numerator and denominator apart), s × 1.1 if a < 1/2, s / 1.1 if a > 0.8.
      This costs nothing: g′ᵀs and sᵀC′s are entries of the next step's 2×2 system.

    s stays between `smallest` and `greatest`: where λ outweighs C by far, steps are so short that a is all noise, and
    nothing would bring λ back. A rejected step may go beyond.

    On a small batch the model can be flat where the loss is not, so a step that promises more than a never-negative
    loss has to lose is shortened until it does not (`bounded`).

    With `temper`, the curvature's part in Δz never outweighs the gradient's: it goes towards Δz = g, where (β, ρ) make
    the steps those of conjugate gradients, but no further than noise allows.

    q and γ cost passes: they are measured at each of the first `eager` steps and every `interval` steps after.
    """

    damped_prediction = False
    bounded = True
    temper = 0.4

    scale: float = 1.0
    residual: float = 1.0
    largest: float = 0.0
    mean_largest: float = 0.0
    mean_weight: float = 0.0
    mean_agreement: float = 0.0
    mean_curvature: float = 0.0

    eager: int = 20
    interval: int = 10
    memory: float = 0.9
    smallest: float = 0.05
    greatest: float = 3.0

    def wants_ratio(self, step: int) -> bool:
        """Often at first, then every so often."""
        return step < self.eager or step % self.interval == 0

    def wants_residual(self, step: int) -> bool:
        """Along with γ."""
        return self.wants_ratio(step)

    def choose(self, local: Local | None, residual: float | None, lr: float) -> float:
        """s · e · q."""
        if residual is not None:
            self.residual = float(np.clip(residual, 1e-6, 1.0))
        if local is not None:
            self._compare_with_last_step(local, lr)
            found = largest_eigenvalue(local[0], local[1])
            self.mean_largest = self.memory * self.mean_largest + (1 - self.memory) * found
            self.mean_weight = self.memory * self.mean_weight + (1 - self.memory)
            self.largest = max(found, self.mean_largest / self.mean_weight)
        return self.scale * self.largest * self.residual

    def _compare_with_last_step(self, local: Local, lr: float) -> None:
        """Take note of a, the last step being η z, z the second direction."""
        if len(local[2]) < 2 or lr == 0:
            return
        curvature, slope = lr**2 * float(local[0][1, 1]), lr * float(local[2][1])
        self.mean_curvature = self.memory * self.mean_curvature + (1 - self.memory) * curvature
        self.mean_agreement = self.memory * self.mean_agreement + (1 - self.memory) * (curvature - slope)
        if self.mean_agreement < 0.5 * self.mean_curvature:
            self.scale = min(self.scale * 1.1, self.greatest)
        elif self.mean_agreement > 0.8 * self.mean_curvature:
            self.scale = max(self.scale / 1.1, self.smallest)

    def learn(self, ratio: float) -> None:
        """More damping where the undamped model promised too much, less where it kept its word."""
        if not ratio >= 0.25:
            self.scale = min(self.scale * 1.5, self.greatest)
        elif ratio > 0.75 and self.mean_agreement >= 0.6 * self.mean_curvature:
            self.scale = max(self.scale / 1.5, self.smallest)

    def increase(self) -> None:
        """Four times as much."""
        self.scale *= 4


def largest_eigenvalue(curvature: Matrix, metric: Matrix, cutoff: float = 1e-10) -> float:
    """The largest vᵀCv / vᵀv over the span of the directions behind the two Gram matrices."""
    if len(metric) == 2:
        found = _larger_of_two(curvature.tolist(), metric.tolist())
        if found is not None:
            return max(0.0, found)
    values, vectors = np.linalg.eigh(metric)
    keep = values > cutoff * values.max()
    if not keep.any():
        return 0.0
    white: Any = vectors[:, keep] / np.sqrt(values[keep])
    return max(0.0, float(np.linalg.eigvalsh(white.T @ curvature @ white).max()))


def _larger_of_two(c: list[list[float]], m: list[list[float]]) -> float | None:
    """The larger root μ of det(C − μM) = 0; None where the directions are near dependent or of very unequal lengths.

    Scaled to M = [[1, r], [r, 1]], which has eigenvectors (1, ±1).
    """
    if not min(m[0][0], m[1][1]) > 1e-6 * max(m[0][0], m[1][1]):
        return None
    first, second = math.sqrt(m[0][0]), math.sqrt(m[1][1])
    r = m[0][1] / (first * second)
    if not abs(r) < 0.999:
        return None
    p, q, s = c[0][0] / m[0][0], c[1][1] / m[1][1], c[0][1] / (first * second)
    along, across = (p + q + 2 * s) / (2 * (1 + r)), (p + q - 2 * s) / (2 * (1 - r))
    between = (p - q) / (2 * math.sqrt(1 - r * r))
    return (along + across) / 2 + math.hypot((along - across) / 2, between)
