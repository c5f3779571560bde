"""Mean-squared error: H_ℓ = 2/m · I, m the number of elements."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from quadric.objective.losses.loss import Elementwise


class SquaredError(Elementwise):
    """`torch.nn.MSELoss`: the mean of (y − t)² over all elements."""

    closed_form = True
    nonnegative = True
    likelihood = True

    def hessian(self, outputs: Tensor, targets: Any) -> Callable[[Tensor], Tensor]:
        """v ↦ 2 v / m."""
        if targets.shape != outputs.shape:
            return super().hessian(outputs, targets)
        return lambda v: v * (2 / outputs.numel())

    def sample(self, outputs: Tensor, targets: Any, generator: torch.Generator) -> Tensor:
        """√(2/m) ε, ε standard normal: 2 (y − t)/√m with t drawn from the normal distribution N(y, ½)."""
        if targets.shape != outputs.shape:
            raise ValueError(
                f"Expected targets shaped like the outputs, {list(outputs.shape)}, got {list(targets.shape)}: "
                "reshape one of them."
            )
        noise = torch.randn(outputs.shape, dtype=outputs.dtype, device=outputs.device, generator=generator)
        return noise.mul_((2 / outputs.numel()) ** 0.5)
