"""Hutchinson's estimate of the Hessian's diagonal, with the gradient, from one linearisation."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from quadric.objective.closure import Closure
from quadric.optim.adaptive import Mean, Seen
from quadric.optim.model import Vector
from quadric.optim.optimizer import Weights


def gradient_and_diagonal(closure: Closure, weights: Weights, seed: int, taped: bool) -> tuple[Seen, bool]:
    """f, g and z ∘ Hz, z random signs: an unbiased estimate of diag H with variance Σ_{j≠i} H_ij² at entry i.

    H is the exact Hessian over the moved tensors on the step's own batches. Also whether the tape served, which the
    caller gives as `taped` at the next step. Cost: a gradient and a Hessian product. Reference: Hutchinson (1990);
    Bekas, Kokiopoulou and Saad (2007), An estimator for the diagonal of a matrix.
    """
    z = signs(weights.tensors, seed)
    gradient, product = Mean(), Mean()
    losses: list[Tensor] = []
    for local in closure.differentiated(taped=taped):
        taped = taped and local.route == "tape"
        if local.weight == 0:
            continue
        spread = weights.spread(z, local.parameters)
        losses.append(local.loss)
        gradient.add(weights.pick(local.gradient()), local.weight)
        product.add(weights.pick(local.hessian(spread, retain=False)), local.weight)
    diagonal = list(torch._foreach_mul(product.value(), z))
    return Seen(gradient.of(losses), gradient.value(), diagonal, 2 * len(losses)), taped


def signs(tensors: Sequence[Tensor], seed: int) -> Vector:
    """Independent ±1 entries shaped like the tensors; the same on every run with this seed, by device."""
    device = tensors[0].device
    sizes = [t.numel() for t in tensors]
    generator = torch.Generator(device).manual_seed(seed)
    octets = torch.empty(-(-sum(sizes) // 8), dtype=torch.uint8, device=device).random_(0, 256, generator=generator)
    bits = (octets.unsqueeze(1) >> torch.arange(8, dtype=torch.uint8, device=device)).bitwise_and_(1).view(-1)
    parts = bits[: sum(sizes)].split(sizes)
    return [b.view(t.shape).to(t.dtype).mul_(2).sub_(1) for b, t in zip(parts, tensors, strict=True)]


def seed_of_step(seed: int, step: int) -> int:
    """A seed for one step's draws; torch's CPU generator takes 32 bits, so both numbers go into all of them."""
    return (seed * 0x9E3779B9 + step * 0x85EBCA6B) % 2**32
