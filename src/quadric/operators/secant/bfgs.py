"""BFGS, dense and with limited memory."""

from __future__ import annotations

import torch
from torch import Tensor

from quadric.operators.secant.curvature_condition import PositiveSecant
from quadric.operators.secant.secant import Terms


class BFGS(PositiveSecant):
    """H⁺ = (I − ρ s yᵀ) H (I − ρ y sᵀ) + ρ s sᵀ, ρ = 1/sᵀy: of all symmetric H⁺ with H⁺y = s, whose inverse is nearest.

    With limited memory products go by the two-loop recursion, and updates cost nothing. References: Broyden, Fletcher,
    Goldfarb, Shanno (1970); Nocedal and Wright (2006), equation 6.17 and algorithm 7.4.
    """

    def _terms(self, s: Tensor, y: Tensor, u: Tensor) -> Terms:
        """H⁺ = H − ρ(s uᵀ + u sᵀ) + ρ(1 + ρ yᵀu) s sᵀ with u = H y."""
        rho = 1 / float(s @ y)
        core = torch.tensor([[rho * (1 + rho * float(y @ u)), -rho], [-rho, 0.0]], dtype=s.dtype, device=s.device)
        return torch.stack([s, u], dim=1), core

    def _remember(self) -> None:
        if self.initial is None:
            s, y = self.pairs[-1]
            self.scale = float(s @ y) / float(y @ y)

    def _apply(self, x: Tensor) -> Tensor:
        if self._matrix is not None:
            return self._matrix @ x
        alphas = []
        for s, y in reversed(self.pairs):
            alpha = (s @ x) / (s @ y)
            x = x - torch.outer(y, alpha)
            alphas.append(alpha)
        x = self.scale * x
        for (s, y), alpha in zip(self.pairs, reversed(alphas), strict=True):
            x = x + torch.outer(s, alpha - (y @ x) / (s @ y))
        return x
