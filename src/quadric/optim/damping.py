"""How λ in C + λI is chosen and adapted.

A rule is asked before each step what it will want measured, then for λ, and after the step it learns from the ratio γ
of the actual to the predicted reduction on the same batch.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from quadric.optim.subspace import Local, Matrix


class Damping(ABC):
    """A rule for λ. Its fields are its state."""

    damped_prediction: ClassVar[bool] = True
    """Whether the predicted reduction includes λ."""
    needs_curvature: ClassVar[bool] = False
    """Whether `choose` needs the curvature at every step."""

    @abstractmethod
    def wants_ratio(self, step: int) -> bool:
        """Whether γ is to be measured at this step (an extra forward pass)."""

    def wants_residual(self, step: int) -> bool:
        """Whether the residual of Newton's equation is to be measured at this step (extra reverse passes)."""
        return False

    @abstractmethod
    def choose(self, local: Local | None, residual: float | None) -> float:
        """λ for this step, given C and the metric on the step's subspace where they were computed."""

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

    def choose(self, local: Local | None, residual: float | None) -> float:
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
    """λ = s · e · q: nothing to set.

    e is the largest eigenvalue of C in the step's subspace, q = ‖g + C y‖ / ‖g‖ the share of Newton's equation that the
    subspace's undamped minimiser y leaves unexplained, and s adapts by γ of the undamped model: ×1.5 if γ < 1/4,
    /1.5 if γ > 3/4. So λ scales with the loss, vanishes where the subspace holds Newton's step, and is of the size of
    the curvature where it doesn't.

    q and γ are measured at each of the first `eager` steps and every `interval` steps after.
    """

    damped_prediction = False
    needs_curvature = True

    scale: float = 1.0
    residual: float = 1.0
    largest: float = 0.0
    eager: int = 20
    interval: int = 10
    factor: float = 1.5
    smallest: float = 0.05

    def wants_ratio(self, step: int) -> bool:
        """Often at first, then every so often."""
        return step < self.eager or step % self.interval == 0

    def wants_residual(self, step: int) -> bool:
        """Along with γ."""
        return self.wants_ratio(step)

    def choose(self, local: Local | None, residual: float | None) -> float:
        """s · e · q."""
        if residual is not None:
            self.residual = float(np.clip(residual, 1e-6, 1.0))
        if local is not None:
            self.largest = largest_eigenvalue(local[0], local[1])
        return self.scale * self.largest * self.residual

    def learn(self, ratio: float) -> None:
        """More damping where the undamped model promised too much, less where it kept its word."""
        if not ratio >= 0.25:
            self.scale *= self.factor
        elif ratio > 0.75:
            self.scale = max(self.scale / self.factor, self.smallest)

    def increase(self) -> None:
        """Four times as much."""
        self.scale *= 4


def largest_eigenvalue(curvature: Matrix, metric: Matrix, cutoff: float = 1e-10) -> float:
    """The largest vᵀCv / vᵀv over the span of the directions behind the two Gram matrices."""
    values, vectors = np.linalg.eigh(metric)
    keep = values > cutoff * values.max()
    if not keep.any():
        return 0.0
    white: Any = vectors[:, keep] / np.sqrt(values[keep])
    return max(0.0, float(np.linalg.eigvalsh(white.T @ curvature @ white).max()))
