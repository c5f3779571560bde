"""AdaHessian: Adam with Hutchinson's estimate of the Hessian's diagonal in place of the gradient."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from quadric.objective.closure import Closure
from quadric.objective.objective import Objective
from quadric.optim.adaptive import AdaptiveOptimizer, Seen, check_interval
from quadric.optim.hutchinson import gradient_and_diagonal, seed_of_step
from quadric.optim.model import Vector
from quadric.optim.optimizer import Weights


class AdaHessian(AdaptiveOptimizer):
    """AdaHessian (Yao, Gholami, Shen, Mustafa, Keutzer, Mahoney, 2021), algorithm 1.

        m ← β₁ m + (1 − β₁) g,    v ← β₂ v + (1 − β₂) D²,    D = z ∘ Hz, z random signs
        w ← (1 − ηω) w − η m̂ / (v̂^{k/2} + ε)

    with H the exact Hessian of the batch and m̂, v̂ the running means without their start's bias.

    Args:
        params: an `Objective`, or parameters or group dicts as torch takes them; groups may set `lr`, `weight_decay`
            and `betas`.
        lr: η.
        betas: β₁ and β₂.
        eps: ε.
        weight_decay: ω, decoupled from the gradient.
        hessian_power: k in [0, 1]; 0 is momentum.
        interval: H is looked at, and v moves, every so many steps.
        spatial_average: of a convolution's weights, D is averaged over each kernel (the paper's equation 10).
        seed: of the signs.

    State: two buffers per parameter. Cost: a gradient and a Hessian product from one linearisation, at every
    `interval`-th step; else a gradient. Raises ValueError for settings out of range.
    """

    _scalars = ("steps", "_taped")

    def __init__(
        self,
        params: Objective | Iterable[Any],
        lr: float = 0.1,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-4,
        weight_decay: float = 0.0,
        *,
        hessian_power: float = 1.0,
        interval: int = 1,
        spatial_average: bool = True,
        seed: int = 0,
    ) -> None:
        check_interval(interval)
        if not 0 <= hessian_power <= 1:
            raise ValueError(f"Expected hessian_power in [0, 1], got {hessian_power!r}.")
        super().__init__(params, lr, betas, eps, weight_decay)
        self.hessian_power = hessian_power
        self.interval = interval
        self.spatial_average = spatial_average
        self.seed = seed
        self._taped = True

    def _look(self, closure: Closure, weights: Weights) -> Seen:
        if self.steps % self.interval:
            return super()._look(closure, weights)
        seen, self._taped = gradient_and_diagonal(closure, weights, seed_of_step(self.seed, self.steps), self._taped)
        return seen

    def _directions(self, weights: Weights, seen: Seen) -> Vector:
        means, shares = self._averaged(weights.tensors, "gradient", seen.gradient, self._betas(weights, 0))
        if seen.diagonal is not None:
            d = [self._averaged_over_kernels(x) for x in seen.diagonal]
            self._averaged(weights.tensors, "curvature", list(torch._foreach_mul(d, d)), self._betas(weights, 1))
        v = self._curvatures(weights)
        known = torch._foreach_norm(v)
        torch._foreach_pow_(v, self.hessian_power / 2)
        torch._foreach_add_(v, self.eps)
        directions = list(torch._foreach_div(means, shares))
        torch._foreach_div_(directions, v)
        if seen.diagonal is None and self.hessian_power:  # a layer first used between looks waits for the next
            torch._foreach_mul_(directions, [norm > 0 for norm in known])
        return directions

    def _curvatures(self, weights: Weights) -> Vector:
        """v̂; zero for a tensor whose curvature has not been looked at yet."""
        found = []
        for w, beta in zip(weights.tensors, self._betas(weights, 1), strict=True):
            state = self.state[w]
            share = 1 - beta ** state.get("curvature_count", 0)
            found.append(state["curvature"] / share if share else torch.zeros_like(state["gradient"]))
        return found

    def _averaged_over_kernels(self, d: Tensor) -> Tensor:
        if not self.spatial_average or d.dim() < 3:
            return d
        return d.mean(dim=tuple(range(2, d.dim())), keepdim=True).expand_as(d)
