"""Binary cross-entropy with logits: a diagonal H_ℓ."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from quadric.objective.losses.loss import Elementwise


class BinaryCrossEntropy(Elementwise):
    """`torch.nn.BCEWithLogitsLoss`: the mean over elements of −w (q t log σ + (1 − t) log(1 − σ)), σ = sigmoid(y)."""

    closed_form = True
    nonnegative = True
    likelihood = True

    def hessian(self, outputs: Tensor, targets: Any) -> Callable[[Tensor], Tensor]:
        """v ↦ w (1 + (q − 1) t) σ (1 − σ) v / m."""
        sigma = outputs.detach().sigmoid()
        diagonal = sigma * (1 - sigma) * self._mass(outputs, targets)
        return lambda v: v * diagonal

    def sample(self, outputs: Tensor, targets: Any, generator: torch.Generator) -> Tensor:
        """√(w (1 + (q − 1) t) / m) (σ − y), with y drawn from the Bernoulli distribution of mean σ."""
        sigma = outputs.detach().sigmoid()
        return (sigma - torch.bernoulli(sigma, generator=generator)) * self._mass(outputs, targets) ** 0.5

    def _mass(self, outputs: Tensor, targets: Tensor) -> Tensor | float:
        """w (1 + (q − 1) t) / m, a number when it is the same everywhere."""
        weight, pos_weight = self.option("weight", None), self.option("pos_weight", None)
        mass: Tensor | float = 1 / outputs.numel()
        if pos_weight is not None:
            mass = mass * (1 + (pos_weight - 1) * targets)
        return mass if weight is None else mass * weight
