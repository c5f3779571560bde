"""Shampoo: gradients between inverse roots of their own second moments."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal

import torch
from torch import Tensor

from quadric.objective.objective import Objective
from quadric.optim.adaptive import AdaptiveOptimizer, Seen, accumulate, check_interval, share
from quadric.optim.model import Vector
from quadric.optim.optimizer import Weights
from quadric.optim.sides import Sides, along, check_max_dim, fold, power, second_moment

ADAM_EPS = 1e-8
"""ε of the Adam whose steps lend their lengths."""


class Shampoo(AdaptiveOptimizer):
    """Shampoo (Gupta, Koren, Singer, 2018), with the running means and grafting of Anil et al. (2020).

    For a weight matrix with gradient G and mean gradient M ← β₁ M + (1 − β₁) G:

        L ← β₂ L + (1 − β₂) GGᵀ,    R ← β₂ R + (1 − β₂) GᵀG        (β₂ = 1: sums, L ← L + GGᵀ)
        P = L̂^{−1/4} M̂ R̂^{−1/4},    w ← (1 − ηω) w − η (‖A‖ / ‖P‖) P

    the roots being those of L̂ + ε λ_max(L̂) I, anew every `interval` steps. In general the exponent is −1/(2k) with k
    sides that have a matrix: a vector g takes the step of full-matrix Adagrad, (Σ ggᵀ)^{−1/2} g. A side larger than
    `max_dim` has none, and a parameter without any moves like Adam. A convolution's weight is [out, in·h·w]
    (`sides.folded`).

    Args:
        params: an `Objective`, or parameters or group dicts as torch takes them; groups may set `lr`, `weight_decay`
            and `betas`.
        lr: η.
        betas: β₁ and β₂.
        eps: ε, relative to the largest eigenvalue, so that the scale of the loss does not matter.
        weight_decay: ω, decoupled from the gradient.
        interval: steps between computations of the roots.
        max_dim: the largest side that gets a matrix.
        graft: whose step A lends its length, tensor by tensor: "adam" (with β₁, β₂ of these), "sgd" (M̂), or None for
            the formula as Gupta et al. have it, without the factor.

    State: two buffers per parameter ("adam"), else one, and two matrices for each side. Cost for a matrix [m, n]: a
    gradient and 4mn(m + n) operations; the roots some 10(m³ + n³). Raises ValueError for settings out of range.
    """

    _sums = True

    def __init__(
        self,
        params: Objective | Iterable[Any],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-6,
        weight_decay: float = 0.0,
        *,
        interval: int = 10,
        max_dim: int = 1024,
        graft: Literal["adam", "sgd"] | None = "adam",
    ) -> None:
        check_interval(interval)
        check_max_dim(max_dim)
        if graft not in ("adam", "sgd", None):
            raise ValueError(f'Expected graft "adam", "sgd" or None, got {graft!r}.')
        super().__init__(params, lr, betas, eps, weight_decay)
        self.interval = interval
        self.max_dim = max_dim
        self.graft = graft

    def _directions(self, weights: Weights, seen: Seen) -> Vector:
        tensors, betas = weights.tensors, self._betas(weights, 1)
        means, shares = self._averaged(tensors, "gradient", seen.gradient, self._betas(weights, 0))
        means = list(torch._foreach_div(means, shares))
        roots = [
            self._roots(w, fold(g, self.max_dim), beta)
            for w, g, beta in zip(tensors, seen.gradient, betas, strict=True)
        ]
        directions = [along(fold(m, self.max_dim), r).reshape(m.shape) for m, r in zip(means, roots, strict=True)]
        bare = [i for i, r in enumerate(roots) if all(root is None for root in r)]
        lenders = list(range(len(tensors))) if self.graft == "adam" else bare
        adam = dict(zip(lenders, self._adam(tensors, means, seen.gradient, betas, lenders), strict=True))
        for i in bare:
            directions[i] = adam[i]
        if self.graft is None:
            return directions
        lent = [adam[i] for i in lenders] if self.graft == "adam" else means
        own, length = torch._foreach_norm(directions), torch._foreach_norm(lent)
        for i in set(range(len(tensors))) - set(bare):
            directions[i].mul_(torch.where(own[i] > 0, length[i] / own[i], 0.0))
        return directions

    def _roots(self, w: Tensor, g: Tensor, beta: float) -> Sides:
        """Take a gradient into the second moments of the sides; their inverse roots, anew where they are due."""
        state = self.state[w]
        chosen = [i for i, n in enumerate(g.shape) if n <= self.max_dim]
        for i in chosen:
            moment = second_moment(g, i)
            if f"moment_{i}" not in state:
                state[f"moment_{i}"] = torch.zeros_like(moment)
            accumulate(state[f"moment_{i}"], moment, beta)
        count = state["gradient_count"]
        if (count - 1) % self.interval == 0:
            for i in chosen:
                unbiased = state[f"moment_{i}"] / share(beta, count)
                state[f"root_{i}"] = power(unbiased, -1 / (2 * len(chosen)), self.eps)
        return [state.get(f"root_{i}") for i in range(g.dim())]

    def _adam(
        self, tensors: list[Tensor], means: Vector, gradient: Vector, betas: list[float], chosen: list[int]
    ) -> Vector:
        """Adam's direction for some of the tensors."""
        if not chosen:
            return []
        some = [gradient[i] for i in chosen]
        squares, shares = self._averaged(
            [tensors[i] for i in chosen], "square", list(torch._foreach_mul(some, some)), [betas[i] for i in chosen]
        )
        scales = list(torch._foreach_div(squares, shares))
        torch._foreach_sqrt_(scales)
        torch._foreach_add_(scales, ADAM_EPS)
        return list(torch._foreach_div([means[i] for i in chosen], scales))
