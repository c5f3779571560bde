"""A number and how far to trust it."""

from __future__ import annotations

from dataclasses import dataclass

from quadric.core.saved import Saved


@dataclass(frozen=True)
class Estimate(Saved):
    """`estimate` with its `standard_error` (0 where exact), and the products it took.

    `converged` is whether the standard error is within the tolerance that was asked for, if one was.
    """

    estimate: float
    standard_error: float = 0.0
    products: int = 0
    converged: bool = True

    @property
    def exact(self) -> bool:
        """Whether the number is exact to rounding."""
        return self.standard_error == 0.0

    def __float__(self) -> float:
        return self.estimate

    def __add__(self, other: Estimate) -> Estimate:
        """The sum; standard errors add, which holds whatever the correlation."""
        return Estimate(
            self.estimate + other.estimate,
            self.standard_error + other.standard_error,
            self.products + other.products,
            self.converged and other.converged,
        )

    def times(self, factor: float) -> Estimate:
        """The multiple by an exact number."""
        return Estimate(factor * self.estimate, abs(factor) * self.standard_error, self.products, self.converged)
