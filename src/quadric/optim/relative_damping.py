"""λ in proportion to the curvature, by a share that answers to how the steps turn out."""

from __future__ import annotations

from dataclasses import dataclass

from quadric.optim.agreement import MEMORY, Agreement


@dataclass
class RelativeDamping(Agreement):
    """λ = s · e, e a size of the curvature C: the same steps whatever the loss is multiplied by.

    e is what a method `see`s, or its running mean, whichever is larger: the curvature along the gradient,
    gᵀC g / gᵀg, or the mean eigenvalue tr C / n. s answers to two tests, as in `ModelDamping`:

    - on the same batch (Levenberg 1944, Marquardt 1963): s × 2 if γ < 1/4, s / 2 if γ > 3/4, γ being the actual over
      the predicted reduction of the undamped model; a step that raises the loss is taken back, with s × 4;
    - on the next batch (`Agreement`): s × 1.1 if a < 1/2, where steps were more than half noise; and s is lowered only
      while a ≥ 0.6.

    The second test raises λ to no more than `most` curvatures: steps that are short beside the noise say nothing that
    could bring it back. With `given`, a first λ, e is 1 and s starts there. With `adapt` False, λ stays as given.
    """

    given: float | None = None
    adapt: bool = True
    scale: float = 0.1
    curvature: float = 1.0
    mean_curvature: float = 0.0
    mean_weight: float = 0.0

    most: float = 10.0
    smallest: float = 1e-8
    greatest: float = 1e6

    def __post_init__(self) -> None:
        if self.given is not None:
            self.scale = self.given

    @property
    def value(self) -> float:
        """λ."""
        return self.scale if self.given is not None else self.scale * self.curvature

    def see(self, curvature: float) -> None:
        """Take note of this step's curvature."""
        self.mean_curvature = MEMORY * self.mean_curvature + (1 - MEMORY) * abs(curvature)
        self.mean_weight = MEMORY * self.mean_weight + (1 - MEMORY)
        self.curvature = max(abs(curvature), self.mean_curvature / self.mean_weight)

    def compare(self, slope: float, curvature: float) -> None:
        """Take note of g′ᵀs and sᵀC′s, s the last step."""
        super().compare(slope, curvature)
        if self.adapt and self.noisy and self.value < self.most * self.curvature:
            self._multiply(1.1)

    def learn(self, ratio: float) -> None:
        """Take note of γ."""
        if not self.adapt:
            return
        if not ratio >= 0.25:
            self._multiply(2.0)
        elif ratio > 0.75 and self.sound:
            self._multiply(0.5)

    def increase(self) -> None:
        """After a step that was taken back or refused."""
        if self.adapt:
            self._multiply(4.0)

    def raise_to(self, damping: float) -> None:
        """At least so much, however large that is."""
        unit = 1.0 if self.given is not None or self.curvature == 0 else self.curvature
        self.scale = max(self.scale, damping / unit)

    def _multiply(self, factor: float) -> None:
        self.scale = min(max(self.scale * factor, self.smallest), self.greatest)
