"""The Monte Carlo Fisher matrix."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from quadric.core.randomness import Seed
from quadric.curvature.curvature import Curvature
from quadric.objective.batch import Batch
from quadric.objective.linearization import Linearization
from quadric.objective.objective import Objective


@dataclass(frozen=True)
class Sampled:
    """A linearised batch and, for each sample, the loss's gradient in the outputs at targets drawn from the model."""

    linearization: Linearization
    slopes: tuple[Tensor, ...]
    dims: tuple[int, ...]
    """The dimensions of the outputs over which the slopes are dotted."""


class Fisher(Curvature[Sampled]):
    """F = Jᵀ M J with M the mean of s sᵀ, s = ∂ℓ(y, t̃)/∂y at targets t̃ drawn from the model's own likelihood.

    s is scaled so that E[s sᵀ] = H_ℓ, hence E[F] = GGN: with class weights, ignored targets, label smoothing and
    further output dimensions H_ℓ = Σᵢ mᵢ/D (diag pᵢ − pᵢ pᵢᵀ), and sᵢ = √(mᵢ/D) (pᵢ − e_ỹ); for squared error
    s = √(2/m) ε. Draws of different examples (of different positions, for cross-entropy) are independent, so their
    products have mean zero and are left out. `samples` draws are averaged; they and the model's random numbers are
    those of `seed` at every product, so that F is one matrix. Over an iterable of batches the draws go by the place in
    the order: one that shuffles gives another matrix each time.

    Raises ValueError for a loss that is not cross-entropy, squared error or binary cross-entropy with logits, and for
    fewer than one sample. Cost of a product: that of the GGN. Reference: Martens (2020), New insights and perspectives
    on the natural gradient method, section 5; Kunstner, Balles and Hennig (2019), equation 4.
    """

    positive_semidefinite = True

    def __init__(self, objective: Objective, data: Any = None, *, samples: int = 1, seed: Seed = 0) -> None:
        super().__init__(objective, data, seed=seed)
        if isinstance(samples, bool) or not isinstance(samples, int) or samples < 1:
            raise ValueError(f"Expected samples to be a positive integer, got {samples!r}.")
        loss = objective.loss
        if loss is not None and not loss.likelihood:
            loss.sample(torch.zeros(0), None, torch.Generator())  # its refusal
        self.samples = samples

    def _local(self, batch: Batch) -> Sampled:
        linearization = Linearization(self.objective, batch)
        loss, outputs = linearization.split(), linearization.outputs.detach()
        generator = torch.Generator(outputs.device).manual_seed(int(torch.randint(2**62, ())))  # follows from `seed`
        slopes = tuple(loss.sample(outputs, batch.targets, generator) for _ in range(self.samples))
        return Sampled(linearization, slopes, loss.block_dims(outputs))

    def _product(self, local: Sampled, v: Sequence[Tensor], retain: bool) -> list[Tensor]:
        tangent = local.linearization.jvp(v)
        total = sum((s * block_dot(s, tangent, local.dims) for s in local.slopes), torch.zeros_like(tangent))
        return local.linearization.vjp(total / self.samples, retain=retain)

    def _narrowed(self, local: Sampled, positions: Sequence[int]) -> Sampled:
        return replace(local, linearization=local.linearization.narrowed(positions))

    def _weight(self, local: Sampled) -> float:
        return local.linearization.weight

    def _loss(self, local: Sampled) -> Tensor:
        return local.linearization.loss

    def _route(self, local: Sampled) -> str:
        return local.linearization.route


def block_dot(a: Tensor, b: Tensor, dims: tuple[int, ...]) -> Tensor:
    """⟨a, b⟩ over some dimensions, which stay as ones; no dimensions give the element-wise product."""
    return (a * b).sum(dims, keepdim=True) if dims else a * b
