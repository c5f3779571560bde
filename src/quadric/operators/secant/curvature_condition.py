"""The safeguard of DFP and BFGS: a pair keeps H positive definite if, and only if, sᵀy > 0."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from quadric.core.space import Space
from quadric.operators.secant.secant import Secant, SecantUpdate

SHARE = 0.2
"""Powell's: damping leaves s̄ᵀy at no less than this share of yᵀH y."""


class PositiveSecant(Secant):
    """A secant approximation that stays positive definite.

    A pair must satisfy the curvature condition sᵀy > ε‖s‖‖y‖, with ε = 1e-8 (8 rounding units in lower precision). With
    `safeguard="skip"` one that does not is left out. With `"damp"` (Powell's damping, here for the inverse), s is first
    moved towards H y, s̄ = θ s + (1 − θ) H y, so that s̄ᵀy ≥ 0.2 yᵀH y; then it is s̄ that satisfies the secant equation.
    References: Nocedal and Wright (2006), section 6.1 and procedure 18.2; Goldfarb, Ren and Bahamou (2020), Practical
    quasi-Newton methods for training deep neural networks, section 4 (for the inverse).
    """

    positive_semidefinite = True

    def __init__(self, space: Space, *, safeguard: str = "skip", **storage: Any) -> None:
        if safeguard not in ("skip", "damp"):
            raise ValueError(f"Expected safeguard='skip' or 'damp', got {safeguard!r}.")
        self.safeguard = safeguard
        super().__init__(space, **storage)

    def _safeguard(self, s: Tensor, y: Tensor) -> tuple[Tensor, SecantUpdate]:
        damped = False
        if self.safeguard == "damp":
            image = self._apply(y.unsqueeze(1)).squeeze(1)
            product, bound = float(s @ y), float(y @ image)
            if product < SHARE * bound:
                theta = (1 - SHARE) * bound / (bound - product)
                s, damped = theta * s + (1 - theta) * image, True
        if not float(s @ y) > self.tolerance * float(s.norm()) * float(y.norm()):
            return s, SecantUpdate(False, damped, "the curvature condition sᵀy > 0 does not hold")
        return s, SecantUpdate(True, damped, "the pair was damped" if damped else "the curvature condition holds")
