"""DFP, dense and with limited memory."""

from __future__ import annotations

import torch
from torch import Tensor

from quadric.operators.secant.curvature_condition import PositiveSecant
from quadric.operators.secant.secant import Terms


class DFP(PositiveSecant):
    """H⁺ = H − H y yᵀH / yᵀH y + s sᵀ / sᵀy: the rank-two correction of the inverse nearest to H.

    References: Davidon (1959), Fletcher and Powell (1963); Nocedal and Wright (2006), equation 6.15.
    """

    def _terms(self, s: Tensor, y: Tensor, u: Tensor) -> Terms:
        core = torch.tensor([1 / float(s @ y), -1 / float(y @ u)], dtype=s.dtype, device=s.device)
        return torch.stack([s, u], dim=1), torch.diag(core)
