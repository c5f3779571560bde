"""What the engine asks of a loss, answered by autograd for any function that is twice differentiable."""

from __future__ import annotations

from collections.abc import Callable, Iterator
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
    convex = False
    """Whether the loss is known to be convex in the outputs: of a function of one's own, if it has `convex = True`."""
    nonnegative = False
    """Whether the loss is known never to be negative."""
    likelihood = False
    """Whether the loss is the negative log-likelihood of a distribution that `sample` can draw from."""
    separable = False
    """Whether the loss is known to be Σ D_n ℓ_n / Σ D_n over examples n, with D_n given by `normalizers`."""

    def __init__(self, function: LossFunction, option: Option) -> None:
        self.function = function
        self.option = option
        if getattr(function, "convex", False) is True:
            self.convex = True

    def __call__(self, outputs: Any, targets: Any) -> Tensor:
        """The loss as the user's function gives it."""
        return self.function(outputs, targets)

    def normalizer(self, outputs: Any, targets: Any, examples: int) -> float:
        """What the mean divides by: here the number of examples."""
        return float(examples)

    def hessian(self, outputs: Tensor, targets: Any) -> Callable[[Tensor], Tensor]:
        """v ↦ H_ℓ v at these outputs, H_ℓ = ∂²ℓ/∂outputs², v shaped like the outputs.

        The function is evaluated again: it is for the caller to give it the same random numbers.
        """
        with torch.enable_grad():
            at = outputs.detach().requires_grad_()
            (slope,) = torch.autograd.grad(self(at, targets), at, create_graph=True, materialize_grads=True)

        def product(v: Tensor) -> Tensor:
            if not slope.requires_grad:
                return torch.zeros_like(v)
            (out,) = torch.autograd.grad(slope, at, v, retain_graph=True, materialize_grads=True)
            return out

        return product

    # ---- the loss example by example, and H_ℓ as a sum of squares: what Fisher matrices and K-FAC are made of
    #
    # H_ℓ is block-diagonal. `block_dims` are the dimensions of the outputs that one block spans; the products of
    # `sample` and `square_root` are meant block by block.

    def normalizers(self, outputs: Tensor, targets: Any) -> Tensor:
        """D_n of every example, [examples]; they add up to `normalizer`."""
        return outputs.new_ones(outputs.shape[0])

    def block_dims(self, outputs: Tensor) -> tuple[int, ...]:
        """The dimensions of the outputs that a block of H_ℓ spans: here all but the first."""
        return tuple(range(1, outputs.dim()))

    def sample(self, outputs: Tensor, targets: Any, generator: torch.Generator) -> Tensor:
        """s, shaped like the outputs, with E[s sᵀ] = H_ℓ: the loss's gradient at targets drawn from the model's own
        likelihood, scaled to the loss's mean. Raises ValueError for a loss that is no such likelihood."""
        raise ValueError(
            "A Monte Carlo Fisher needs a loss that is the negative log-likelihood of a distribution to draw from: "
            f"cross-entropy, squared error or binary cross-entropy with logits; got {_name(self.function)}. "
            "Use torch's own loss, or quadric.GGN."
        )

    def square_root(self, outputs: Tensor, targets: Any) -> Iterator[Tensor]:
        """r₁, r₂, …, shaped like the outputs, with Σ_k r_k r_kᵀ = H_ℓ. Raises ValueError where it isn't known."""
        raise ValueError(
            f'fisher="exact" needs H_ℓ as a sum of squares, which is not known for {_name(self.function)}. '
            'Use one of torch\'s element-wise losses or cross-entropy, or fisher="empirical".'
        )


def _name(function: Any) -> str:
    return getattr(function, "__name__", type(function).__name__)


class Elementwise(Loss):
    """A loss that torch averages over the elements of the outputs; torch's are convex in them."""

    convex = True
    separable = True

    def normalizer(self, outputs: Any, targets: Any, examples: int) -> float:
        """The number of elements."""
        return float(outputs.numel())

    def normalizers(self, outputs: Tensor, targets: Any) -> Tensor:
        """The number of elements of an example."""
        return outputs.new_full((outputs.shape[0],), outputs.numel() / max(1, outputs.shape[0]))

    def square_root(self, outputs: Tensor, targets: Any) -> Iterator[Tensor]:
        """√h on one element of each example after the other, h the diagonal of H_ℓ."""
        diagonal = self.hessian(outputs, targets)(torch.ones_like(outputs))
        if bool((diagonal < 0).any()):
            raise ValueError(
                f'fisher="exact" needs a convex loss, but the second derivative of {_name(self.function)} is negative '
                'somewhere. Use fisher="empirical".'
            )
        root = diagonal.sqrt().reshape(outputs.shape[0], -1)
        for i in range(root.shape[1]):
            one = torch.zeros_like(root)
            one[:, i] = root[:, i]
            yield one.view(outputs.shape)
