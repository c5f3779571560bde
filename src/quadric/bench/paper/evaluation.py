"""An instance as NumPy sees it, for solvers from elsewhere; each evaluation draws a new batch."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.func import functional_call, jacfwd

from quadric.problems import Batch, Instance

Vector = NDArray[np.float64]


class Evaluation:
    """Loss, gradient, residuals and Jacobian at flat weights; `weights` is where the model starts.

    Least squares: the loss is the mean over examples of the squared norm of outputs − targets, and the residuals r are
    scaled so that it is ‖r‖².
    """

    def __init__(self, instance: Instance) -> None:
        self.model, self.loss_fn = instance.model, instance.loss_fn
        self.parameters = {name: p.detach() for name, p in instance.model.named_parameters()}
        self.weights: Vector = torch.cat([p.flatten() for p in self.parameters.values()]).numpy().copy()
        self._batches: Iterator[Batch] = (batch for epoch in count() for batch in instance.epoch(epoch))

    def loss_and_gradient(self, weights: Vector) -> tuple[float, Vector]:
        """f and ∇f on the next batch."""
        at, (inputs, targets) = torch.from_numpy(weights).requires_grad_(), next(self._batches)
        loss = self.loss_fn(functional_call(self.model, self._named(at), (inputs,)), targets)
        (gradient,) = torch.autograd.grad(loss, at)
        return float(loss.detach()), gradient.numpy()

    def residuals_and_jacobian(self, weights: Vector) -> tuple[Vector, Vector]:
        """r [m] and J = ∂r/∂w [m, n] on the next batch."""
        inputs, targets = next(self._batches)

        def residuals(at: Tensor) -> tuple[Tensor, Tensor]:
            outputs = functional_call(self.model, self._named(at), (inputs,))
            r = (outputs - targets).flatten() / len(targets) ** 0.5
            return r, r

        jacobian, r = jacfwd(residuals, has_aux=True)(torch.from_numpy(weights))
        return r.numpy(), jacobian.numpy()

    def _named(self, flat: Tensor) -> dict[str, Tensor]:
        parts = flat.split([p.numel() for p in self.parameters.values()])
        return {name: part.view_as(p) for (name, p), part in zip(self.parameters.items(), parts, strict=True)}
