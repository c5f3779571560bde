"""Whether the next batches would take the last steps again: the test that tells progress from fitted noise."""

from __future__ import annotations

from dataclasses import dataclass

MEMORY = 0.9
"""Weight of the past in running means."""


@dataclass(kw_only=True)
class Agreement:
    """a = 1 − g′ᵀs / sᵀC′s, averaged over steps s, with the next batch's gradient g′ after the step.

    That batch's model along s has its minimum at a steps from where s began: at 1 if it would have taken the same step,
    at 0 if s did nothing for it. Numerator and denominator are averaged apart, with weights 0.9 for the past.
    """

    mean_agreement: float = 0.0
    mean_step_curvature: float = 0.0

    def compare(self, slope: float, curvature: float) -> None:
        """Take note of g′ᵀs and sᵀC′s, s the last step."""
        self.mean_step_curvature = MEMORY * self.mean_step_curvature + (1 - MEMORY) * curvature
        self.mean_agreement = MEMORY * self.mean_agreement + (1 - MEMORY) * (curvature - slope)

    @property
    def share(self) -> float:
        """a; 0 where nothing is known, or the curvature along the steps is not positive."""
        return self.mean_agreement / self.mean_step_curvature if self.mean_step_curvature > 0 else 0.0

    @property
    def noisy(self) -> bool:
        """a < 1/2: steps were more than half noise."""
        return self.mean_agreement < 0.5 * self.mean_step_curvature

    @property
    def sound(self) -> bool:
        """a ≥ 0.6, or nothing is known yet."""
        return self.mean_agreement >= 0.6 * self.mean_step_curvature
