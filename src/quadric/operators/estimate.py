"""A number and how far to trust it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Estimate:
    """`estimate` with its `standard_error` (0 where exact), and the products it took."""

    estimate: float
    standard_error: float = 0.0
    products: int = 0

    @property
    def exact(self) -> bool:
        """Whether the number is exact to rounding."""
        return self.standard_error == 0.0

    def __float__(self) -> float:
        return self.estimate

    def __add__(self, other: Estimate) -> Estimate:
        """The sum; standard errors add, which holds whatever the correlation."""
        return Estimate(
            self.estimate + other.estimate, self.standard_error + other.standard_error, self.products + other.products
        )

    def times(self, factor: float) -> Estimate:
        """The multiple by an exact number."""
        return Estimate(factor * self.estimate, abs(factor) * self.standard_error, self.products)
