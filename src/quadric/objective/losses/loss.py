"""What the engine asks of a loss, answered by autograd for any function that is twice differentiable."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

LossFunction = Callable[[Any, Any], Tensor]
Option = Callable[[str, Any], Any]
"""(name, default) → the value of one of the loss function's options at this moment."""


class Loss:
    """ℓ(outputs, targets): a scalar, the mean over examples.

    `closed_form` says whether `hessian` is a formula (True) or two reverse passes through `function` (False).
    """

    closed_form = False
    nonnegative = False
    """Whether the loss is known never to be negative."""

    def __init__(self, function: LossFunction, option: Option) -> None:
        self.function = function
        self.option = option

    def __call__(self, outputs: Any, targets: Any) -> Tensor:
        """The loss as the user's function gives it."""
        return self.function(outputs, targets)

    def normalizer(self, outputs: Any, targets: Any, examples: int) -> float:
        """What the mean divides by: here the number of examples."""
        return float(examples)

    def hessian(self, outputs: Tensor, targets: Any) -> Callable[[Tensor], Tensor]:
        """v ↦ H_ℓ v at these outputs, H_ℓ = ∂²ℓ/∂outputs², v shaped like the outputs.

        Raises ValueError when the loss depends on parameters other than through the outputs, since then the
        Gauss–Newton matrix is not that of the whole loss.
        """
        with torch.enable_grad():
            if self(outputs.detach(), targets).requires_grad:
                raise ValueError(
                    "The loss function depends on trainable parameters other than through the model's outputs, so its "
                    "Gauss–Newton matrix is not defined. For an L2 penalty use the optimiser's weight_decay; for a "
                    "penalty of another kind use quadric.Hessian."
                )
            at = outputs.detach().requires_grad_()
            (slope,) = torch.autograd.grad(self(at, targets), at, create_graph=True, materialize_grads=True)

        def product(v: Tensor) -> Tensor:
            if not slope.requires_grad:
                return torch.zeros_like(v)
            (out,) = torch.autograd.grad(slope, at, v, retain_graph=True, materialize_grads=True)
            return out

        return product


class Elementwise(Loss):
    """A loss that torch averages over the elements of the outputs."""

    def normalizer(self, outputs: Any, targets: Any, examples: int) -> float:
        """The number of elements."""
        return float(outputs.numel())
