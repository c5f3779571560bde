"""The symmetric rank-one update, dense and with limited memory."""

from __future__ import annotations

import torch
from torch import Tensor

from quadric.operators.secant.secant import Secant, SecantUpdate, Terms


class SR1(Secant):
    """H⁺ = H + v vᵀ / vᵀy with v = s − H y: symmetric, not always definite, so it can follow an indefinite Hessian.

    A pair is left out where |vᵀy| ≤ ε‖v‖‖y‖, ε = 1e-8 (8 rounding units in lower precision), and where v is zero: then
    H has it already. `initial=None` is 1: a scale from the pair would make the first denominator zero. With limited
    memory the pairs are replayed on H₀, and those whose denominator has become too small are passed over.
    Reference: Nocedal and Wright (2006), equations 6.25 and 6.26.
    """

    scales = False

    def _usable(self, v: Tensor, y: Tensor) -> bool:
        return abs(float(v @ y)) > self.tolerance * float(v.norm()) * float(y.norm())

    def _safeguard(self, s: Tensor, y: Tensor) -> tuple[Tensor, SecantUpdate]:
        v = s - self._apply(y.unsqueeze(1)).squeeze(1)
        if float(v.norm()) <= 4 * torch.finfo(v.dtype).eps * float(s.norm()):
            return s, SecantUpdate(False, False, "H satisfies the secant equation already")
        if not self._usable(v, y):
            return s, SecantUpdate(False, False, "the denominator (s − H y)ᵀy is too small")
        return s, SecantUpdate(True, False, "the denominator is large enough")

    def _terms(self, s: Tensor, y: Tensor, u: Tensor) -> Terms:
        v = s - u
        usable = self._usable(v, y)
        core = torch.tensor([[1 / float(v @ y) if usable else 0.0]], dtype=s.dtype, device=s.device)
        return v.unsqueeze(1), core
