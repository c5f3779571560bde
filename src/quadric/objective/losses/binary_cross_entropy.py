"""Binary cross-entropy with logits: a diagonal H_ℓ."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor

from quadric.objective.losses.loss import Elementwise, LossFunction


class BinaryCrossEntropy(Elementwise):
    """`torch.nn.BCEWithLogitsLoss`: the mean over elements of −w (q t log σ + (1 − t) log(1 − σ)), σ = sigmoid(y)."""

    closed_form = True

    def __init__(self, function: LossFunction, weight: Tensor | None, pos_weight: Tensor | None) -> None:
        super().__init__(function)
        self.weight = weight
        self.pos_weight = pos_weight

    def hessian(self, outputs: Tensor, targets: Any) -> Callable[[Tensor], Tensor]:
        """v ↦ w (1 + (q − 1) t) σ (1 − σ) v / m."""
        sigma = outputs.detach().sigmoid()
        diagonal = sigma * (1 - sigma) / outputs.numel()
        if self.pos_weight is not None:
            diagonal = diagonal * (1 + (self.pos_weight - 1) * targets)
        if self.weight is not None:
            diagonal = diagonal * self.weight
        return lambda v: v * diagonal
