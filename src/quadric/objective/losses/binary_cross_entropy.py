"""Binary cross-entropy with logits: a diagonal H_ℓ."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor

from quadric.objective.losses.loss import Elementwise


class BinaryCrossEntropy(Elementwise):
    """`torch.nn.BCEWithLogitsLoss`: the mean over elements of −w (q t log σ + (1 − t) log(1 − σ)), σ = sigmoid(y)."""

    closed_form = True
    nonnegative = True

    def hessian(self, outputs: Tensor, targets: Any) -> Callable[[Tensor], Tensor]:
        """v ↦ w (1 + (q − 1) t) σ (1 − σ) v / m."""
        sigma = outputs.detach().sigmoid()
        diagonal = sigma * (1 - sigma) / outputs.numel()
        weight, pos_weight = self.option("weight", None), self.option("pos_weight", None)
        if pos_weight is not None:
            diagonal = diagonal * (1 + (pos_weight - 1) * targets)
        if weight is not None:
            diagonal = diagonal * weight
        return lambda v: v * diagonal
