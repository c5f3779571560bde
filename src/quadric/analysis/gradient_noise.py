"""How much the gradient of one batch owes to the choice of its examples."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from quadric.core.randomness import RandomState, Seed
from quadric.core.saved import Saved
from quadric.objective.batch import Batch
from quadric.objective.isolation import untouched
from quadric.objective.linearization import Linearization
from quadric.objective.objective import Objective

PARTS = 8
"""Parts that a batch is cut into; each micro-batch of several into its share of them."""
LEAST = 4
"""Parts that a standard error needs."""


@dataclass(frozen=True)
class GradientNoise(Saved):
    """`spread` is tr Σ, the trace of the covariance of one example's gradient; `signal` is ‖∇f‖², free of that noise.

    `scale` = spread / signal is the batch size at which noise and gradient are equally long, infinite where the signal
    is lost in the noise. Each comes with its standard error by the jackknife over the parts; a `scale_error` is
    infinite where leaving out one part loses the signal. Over several batches, divide the mean of the spreads by the
    mean of the signals: a mean of ratios is too large.
    """

    spread: float
    spread_error: float
    signal: float
    signal_error: float
    scale: float
    scale_error: float


def gradient_noise(objective: Objective, batches: Sequence[Batch], *, seed: Seed = 0) -> GradientNoise | None:
    """The gradient noise scale from the gradients g_k of parts of a step's batches; None for fewer than 8 examples.

    With B examples in K parts of b_k each, g = Σ b_k g_k / B,

        tr Σ ≈ Σ b_k ‖g_k − g‖² / (K − 1),     ‖∇f‖² ≈ ‖g‖² − tr Σ / B,

    both unbiased where examples are independent. Parts count by what the loss's mean divides by (D_k); more than 8
    micro-batches are put together into 8 parts. Dropout draws anew for each part, so its noise is included. BatchNorm
    in train mode normalises each part by its own statistics, as data-parallel training would: then the numbers are
    about such training.

    Cost: K gradients of parts, together one of the whole, and K < 16 vectors (8 for one batch). The model is left as
    it was. Raises ValueError where examples do not lie along the first dimension. Reference: McCandlish, Kaplan, Amodei
    and the OpenAI Dota team (2018), An empirical model of large-batch training, equations 2.9 and A.1 to A.4, with K
    parts for two batch sizes.
    """
    examples = sum(batch.examples for batch in batches)
    if examples < 2 * LEAST:
        return None
    sums: dict[tuple[int, int], Tensor] = {}
    totals: dict[tuple[int, int], float] = {}
    with untouched(objective.model, RandomState.seeded(seed, objective.space.device)):
        for i, batch in enumerate(batches):
            several = _parts(batch, min(math.ceil(PARTS / len(batches)), max(1, batch.examples // 2)))
            for j, part in enumerate(several):
                local = Linearization(objective, part, taped=False)
                if local.weight > 0:
                    group = (i if len(batches) <= PARTS else i * PARTS // len(batches), j)
                    gradient = objective.space.flatten(local.gradient(retain=False)) * local.weight
                    sums[group] = sums[group].add_(gradient) if group in sums else gradient
                    totals[group] = totals.get(group, 0.0) + local.weight
    weights = list(totals.values())
    if len(weights) < LEAST:
        return None
    rows = torch.stack([sums[group] / total for group, total in totals.items()])
    gram = (rows @ rows.T).double().cpu()
    return _of_gram(gram, torch.tensor(weights, dtype=torch.float64), examples)


def _parts(batch: Batch, count: int) -> Iterator[Batch]:
    """The batch in `count` parts of nearly the same size."""
    for left in range(count, 1, -1):
        part, batch = batch.split(1 / left)
        yield part
    yield batch


def _of_gram(gram: Tensor, weights: Tensor, examples: int) -> GradientNoise:
    """From ⟨g_k, g_l⟩ [K, K] and D_k [K]: the estimates, and those with one part left out."""
    shares = weights / weights.sum()
    whole = _estimates(gram, shares * examples)
    count = len(shares)
    kept = [[j for j in range(count) if j != k] for k in range(count)]
    without = torch.tensor(
        [_estimates(gram[rows][:, rows], shares[rows] * examples) for rows in kept], dtype=torch.float64
    )
    errors = ((count - 1) * without.var(0, correction=0)).sqrt()
    lost = not bool(torch.isfinite(without).all())
    return GradientNoise(
        whole[0], float(errors[0]), whole[1], float(errors[1]), whole[2], math.inf if lost else float(errors[2])
    )


def _estimates(gram: Tensor, sizes: Tensor) -> tuple[float, float, float]:
    """tr Σ, ‖∇f‖² and their ratio."""
    total = sizes.sum()
    squared = sizes @ gram @ sizes / total**2
    spread = float((sizes @ gram.diagonal() - total * squared) / (len(sizes) - 1))
    signal = float(squared) - spread / float(total)
    return spread, signal, spread / signal if signal > 0 else math.inf
