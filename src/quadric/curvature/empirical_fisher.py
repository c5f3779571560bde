"""The empirical Fisher matrix: the second moment of per-example gradients."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from quadric.core.randomness import Seed
from quadric.curvature.curvature import Curvature
from quadric.curvature.example_slopes import example_slopes, over_examples, refuse_coupled
from quadric.objective.batch import Batch
from quadric.objective.isolation import untouched
from quadric.objective.linearization import Linearization
from quadric.objective.objective import Objective


@dataclass(frozen=True)
class Sloped:
    """A linearised batch, the weighted gradients of its examples in the outputs, and √w."""

    linearization: Linearization
    slopes: Tensor
    roots: Tensor


class EmpiricalFisher(Curvature[Sloped]):
    """E = Σ_n w_n g_n g_nᵀ, w_n = D_n / Σ D_n; with `centered=True` the covariance E − g gᵀ, g = Σ_n w_n g_n = ∇f.

    An example is one entry of the batch dimension, g_n the gradient of its loss f_n as a batch of its own, and D_n what
    that mean divides by: 1 for plain cross-entropy, the number of its tokens that are not ignored in a sequence, the
    weight of its class with class weights. So E is the same however the examples are batched, and for one example it is
    g gᵀ. A weighted loss weights examples once, through w_n: f_n itself doesn't change with the scale of its weights.

    By the chain rule E v = Jᵀ diag(r_n r_nᵀ) J v with r_n = √w_n ∂f_n/∂y_n: no per-example gradient is formed. Cost of
    a product: that of the GGN; centered over several batches one gradient more. Raises ValueError for BatchNorm in
    train mode, outputs without the batch in their first dimension, and losses that are no mean over examples.
    Reference: Kunstner, Balles and Hennig (2019), Limitations of the empirical Fisher approximation, equation 3.
    """

    positive_semidefinite = True

    def __init__(self, objective: Objective, data: Any = None, *, centered: bool = False, seed: Seed = 0) -> None:
        super().__init__(objective, data, seed=seed)
        refuse_coupled(objective)
        self.centered = centered

    def _apply(self, x: Tensor) -> Tensor:
        product = super()._apply(x)
        return product + self._between(x) if self.centered and not self._single else product

    def _between(self, x: Tensor) -> Tensor:
        """The covariance of the batches' gradients, times x: what centering each batch on its own leaves out."""
        space = self.space
        total, mean, weights = torch.zeros_like(x), torch.zeros_like(x[:, :1]), 0.0
        with untouched(self.objective.model, self._random()):
            for batch in self.objective.batches(self.data):
                linearization = Linearization(self.objective, batch, taped=False)
                weight = linearization.weight
                if weight > 0:
                    gradient = space.flatten(linearization.gradient(retain=False)).unsqueeze(1)
                    total.addmm_(gradient, gradient.T @ x, alpha=weight)
                    mean.add_(gradient, alpha=weight)
                    weights += weight
        mean.div_(weights)
        return total.div_(weights).addmm_(mean, mean.T @ x, alpha=-1)

    def _local(self, batch: Batch) -> Sloped:
        refuse_coupled(self.objective)
        linearization = Linearization(self.objective, batch)
        slopes, weights = example_slopes(linearization)
        return Sloped(linearization, slopes, weights.sqrt())

    def _product(self, local: Sloped, v: Sequence[Tensor], retain: bool) -> list[Tensor]:
        slopes, tangent = local.slopes, local.linearization.jvp(v)
        dots = (slopes * tangent).reshape(local.roots.numel(), -1).sum(1)
        if self.centered:
            dots = dots - local.roots * (local.roots @ dots)
        along = slopes * over_examples(dots, slopes) if dots.numel() > 1 else slopes * dots[0]
        return local.linearization.vjp(along, retain=retain)

    def _narrowed(self, local: Sloped, positions: Sequence[int]) -> Sloped:
        return replace(local, linearization=local.linearization.narrowed(positions))

    def _weight(self, local: Sloped) -> float:
        return local.linearization.weight

    def _loss(self, local: Sloped) -> Tensor:
        return local.linearization.loss

    def _route(self, local: Sloped) -> str:
        return local.linearization.route
