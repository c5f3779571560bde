"""Mean-squared error: H_ℓ = 2/m · I, m the number of elements."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor

from quadric.objective.losses.loss import Elementwise


class SquaredError(Elementwise):
    """`torch.nn.MSELoss`: the mean of (y − t)² over all elements."""

    closed_form = True
    nonnegative = True

    def hessian(self, outputs: Tensor, targets: Any) -> Callable[[Tensor], Tensor]:
        """v ↦ 2 v / m."""
        if targets.shape != outputs.shape:
            return super().hessian(outputs, targets)
        return lambda v: v * (2 / outputs.numel())
