"""λ for Kronecker factors: a share of the mean eigenvalue, and no less than their sampling noise."""

from __future__ import annotations

from dataclasses import dataclass

from quadric.optim.relative_damping import RelativeDamping

NOISE = 2.5
"""How many times d / N the share of the mean eigenvalue is that is added to a factor. A constant that we chose."""


@dataclass
class FactorDamping(RelativeDamping):
    """λ = max(s, (c d / N)²) · e with e = tr F / n, s adapted as in `RelativeDamping` and c = `NOISE`.

    Factored damping adds a share √(λ / e) of its mean eigenvalue to each factor. The second moment of d numbers over N
    examples is off by some d / N of that, and shrinking it by as much is near the best (Ledoit and Wolf, 2004, A
    well-conditioned estimator for large-dimensional covariance matrices): with less, P⁻¹ blows up what the factors have
    not seen. N = 1 / Σ wᵢ² counts the examples of the running average, wᵢ their weights; the places of one example
    (tokens, pixels) are no independent draws and count as one. A `given` λ is left alone.
    """

    scale: float = 3.0
    smallest: float = 0.03
    thinness: float = 0.0
    """1 / N."""
    side: int = 0
    """d: the largest side of a factor."""

    def __post_init__(self) -> None:
        if self.given is not None:
            self.scale, self.smallest = self.given, RelativeDamping.smallest

    @property
    def value(self) -> float:
        """λ."""
        return super().value if self.given is not None else max(self.scale, self.least) * self.curvature

    @property
    def least(self) -> float:
        """(c d / N)²."""
        return (NOISE * self.side * self.thinness) ** 2

    def sample(self, examples: int, decay: float) -> None:
        """Take note that the factors have taken in a batch."""
        self.thinness = decay**2 * self.thinness + (1 - decay) ** 2 / examples

    def increase(self) -> None:
        """After a step that was taken back or refused: from the floor, where s lies below it."""
        if self.given is None and self.adapt:
            self.scale = max(min(4 * self.scale, self.greatest), 4 * max(self.scale, self.least))
        else:
            super().increase()
