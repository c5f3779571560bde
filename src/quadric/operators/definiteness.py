"""The error of an operator that should be positive definite and is not."""

from __future__ import annotations

import math

import torch

from quadric.core.errors import ConvergenceError


class NotPositiveDefinite(ConvergenceError):
    """A symmetric operator A turned out not to be positive definite.

    `smallest` is the smallest eigenvalue of A that was found, `largest` the magnitude of its largest, `margin` what
    damping should leave above zero.
    """

    def __init__(self, smallest: float, largest: float, dtype: torch.dtype, message: str = "") -> None:
        self.smallest = smallest
        self.largest = largest
        self.dtype = dtype
        super().__init__(message or f"Not positive definite: an eigenvalue of {smallest:.6g} was found.")

    @property
    def singular(self) -> bool:
        """Whether the smallest eigenvalue is zero to rounding."""
        return abs(self.smallest) <= 64 * torch.finfo(self.dtype).eps * self.largest

    def scaled(self, factor: float) -> NotPositiveDefinite:
        """The same finding for factor · A."""
        return NotPositiveDefinite(factor * self.smallest, factor * self.largest, self.dtype)

    def explained(self, damping: float) -> NotPositiveDefinite:
        """The same finding about C + λI, in words: what was found, and the damping that would do."""
        margin = math.sqrt(torch.finfo(self.dtype).eps) * (self.largest or 1.0)
        enough = damping - 1.01 * min(self.smallest, 0.0) + margin
        advice = f"A damping of {enough:.3g} would do"
        if self.singular and damping == 0:
            text = (
                f"The operator is singular (an eigenvalue of {self.smallest:.3g} was found, the largest has magnitude "
                f"{self.largest:.3g}): without damping it has no inverse. {advice}."
            )
        else:
            text = (
                f"The operator with damping {damping:.6g} is not positive definite: the smallest eigenvalue found is "
                f"{self.smallest - damping:.6g} without the damping, {self.smallest:.6g} with it. {advice}; "
                "solver='minres' solves indefinite systems."
            )
        return NotPositiveDefinite(self.smallest, self.largest, self.dtype, text)


def require_positive(values: torch.Tensor, dtype: torch.dtype, rounding: bool = False) -> None:
    """Raise NotPositiveDefinite unless all eigenvalues are positive; with `rounding`, beyond the error of an `eigh`."""
    if values.numel() == 0:
        return
    smallest, largest = float(values.min()), float(values.abs().max())
    floor = 8 * torch.finfo(dtype).eps * largest if rounding else 0.0
    if not smallest > floor:
        raise NotPositiveDefinite(smallest, largest, dtype)
