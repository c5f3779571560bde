"""Sophia: momentum over an estimate of the curvature's diagonal, clipped element by element."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any, Literal

import torch
from torch import Tensor

from quadric.objective.closure import Closure
from quadric.objective.isolation import as_written
from quadric.objective.objective import Objective
from quadric.optim.adaptive import AdaptiveOptimizer, Mean, Seen, check_interval
from quadric.optim.hutchinson import gradient_and_diagonal, seed_of_step
from quadric.optim.model import Vector
from quadric.optim.optimizer import Weights

GAMMA = {"gnb": 0.05, "hutchinson": 0.01}
"""γ of the paper's section 3.1 for each estimator."""


class Sophia(AdaptiveOptimizer):
    """Sophia (Liu, Li, Hall, Liang, Ma, 2023), algorithm 3.

        m ← β₁ m + (1 − β₁) g;    every `interval` steps  h ← β₂ h + (1 − β₂) ĥ
        w ← (1 − ηω) w − η clip(m / max(γ h, ε), 1)

    Estimators of the curvature's diagonal, ĥ:

    - "gnb" (Gauss–Newton–Bartlett): B ĝ ∘ ĝ, with ĝ the gradient of the batch's mean loss at targets drawn from the
      model's own likelihood and B the batch's size; its mean is the Gauss–Newton matrix's diagonal, never negative.
      In general ĥ = (Jᵀs)², E[s sᵀ] = H_ℓ, which holds for class weights, ignored targets and squared error too;
    - "hutchinson": z ∘ Hz with random signs z, of the exact Hessian; where h is not positive the step is clipped;
    - "auto": "gnb" where the loss is a likelihood to draw from (cross-entropy, squared error, binary cross-entropy with
      logits), else "hutchinson".

    Args:
        params: an `Objective`, or parameters or group dicts as torch takes them; groups may set `lr`, `weight_decay`
            and `betas`.
        lr: η, the largest change of any weight in one step.
        betas: β₁ and β₂.
        eps: ε.
        weight_decay: ω, decoupled from the gradient.
        gamma: γ, larger for less clipping; None is the paper's, 0.05 for "gnb" and 0.01 for "hutchinson".
        interval: k.
        seed: of signs and of drawn targets.

    State: two buffers per parameter. Cost: a gradient, and every `interval`-th step one more reverse pass ("gnb") or a
    Hessian product. Raises ValueError for settings out of range, and for "gnb" with a loss that is no such likelihood.
    """

    _scalars = ("steps", "_taped")

    def __init__(
        self,
        params: Objective | Iterable[Any],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.965, 0.99),
        eps: float = 1e-12,
        weight_decay: float = 0.0,
        *,
        estimator: Literal["auto", "gnb", "hutchinson"] = "auto",
        gamma: float | None = None,
        interval: int = 10,
        seed: int = 0,
    ) -> None:
        check_interval(interval)
        if estimator not in ("auto", *GAMMA):
            raise ValueError(f'Expected estimator "auto", "gnb" or "hutchinson", got {estimator!r}.')
        if gamma is not None and not (math.isfinite(gamma) and gamma >= 0):
            raise ValueError(f"Expected gamma to be None (the paper's) or a finite number ≥ 0, got {gamma!r}.")
        super().__init__(params, lr, betas, eps, weight_decay)
        self.estimator = estimator
        self.gamma = gamma
        self.interval = interval
        self.seed = seed
        self._taped = True
        self._chosen = ""

    def _look(self, closure: Closure, weights: Weights) -> Seen:
        self._chosen = self._estimator(closure.objective)
        if self.steps % self.interval:
            return super()._look(closure, weights)
        seed = seed_of_step(self.seed, self.steps)
        if self._chosen == "gnb":
            return gauss_newton_bartlett(closure, weights, seed)
        seen, self._taped = gradient_and_diagonal(closure, weights, seed, self._taped)
        return seen

    def _directions(self, weights: Weights, seen: Seen) -> Vector:
        means, _ = self._averaged(weights.tensors, "gradient", seen.gradient, self._betas(weights, 0))
        if seen.diagonal is not None:
            self._averaged(weights.tensors, "curvature", seen.diagonal, self._betas(weights, 1))
        states = [self.state[w] for w in weights.tensors]
        h = [s["curvature"] if "curvature" in s else torch.zeros_like(s["gradient"]) for s in states]
        scale = list(torch._foreach_mul(h, GAMMA[self._chosen] if self.gamma is None else self.gamma))
        torch._foreach_clamp_min_(scale, max(self.eps, torch.finfo(torch.float32).tiny))
        directions = list(torch._foreach_div(means, scale))
        torch._foreach_clamp_min_(directions, -1.0)
        torch._foreach_clamp_max_(directions, 1.0)
        return directions

    def _estimator(self, objective: Objective) -> str:
        likelihood = objective.loss is not None and objective.loss.likelihood
        if self.estimator == "gnb" and not likelihood:
            raise ValueError(
                'estimator="gnb" draws targets from the likelihood that the loss stands for: cross-entropy, squared '
                'error or binary cross-entropy with logits, torch\'s own. Use estimator="hutchinson" with other losses.'
            )
        return "hutchinson" if self.estimator == "hutchinson" or not likelihood else "gnb"


def gauss_newton_bartlett(closure: Closure, weights: Weights, seed: int) -> Seen:
    """f, g and (Jᵀs)², s the loss's slope at drawn targets: an unbiased estimate of diag(JᵀH_ℓJ).

    Over micro-batches Jᵀs = Σ_b √(D_b / Σ D) J_bᵀ s_b, as on the whole batch. Cost: a gradient and a reverse pass.
    """
    generator = torch.Generator(weights.tensors[0].device).manual_seed(seed)
    gradient, score = Mean(), Mean()
    losses: list[Tensor] = []
    with as_written():  # two reverse passes, and compiled code has but one
        for lin in closure.linearizations(taped=[False] * len(closure.batches)):
            if lin.weight == 0:
                continue
            drawn = lin.split().sample(lin.outputs.detach(), lin.batch.targets, generator)
            losses.append(lin.loss)
            score.add(weights.pick(lin.vjp(drawn)), math.sqrt(lin.weight))
            gradient.add(weights.pick(lin.gradient(retain=False)), lin.weight)
    s = score.value(math.sqrt(sum(gradient.weights)))
    return Seen(gradient.of(losses), gradient.value(), list(torch._foreach_mul(s, s)), len(losses))
