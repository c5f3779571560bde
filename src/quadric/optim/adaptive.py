"""What the adaptive methods share: a running mean of gradients, scaled; decoupled weight decay."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from quadric.objective.closure import Closure
from quadric.objective.objective import Objective
from quadric.optim.model import LocalModel, Vector
from quadric.optim.optimizer import CurvatureOptimizer, Rejection, StepReport, Weights


@dataclass(frozen=True)
class Seen:
    """What a step sees of its batch: f, g and, at steps that look at the curvature, its estimated diagonal."""

    loss: Tensor
    gradient: Vector
    diagonal: Vector | None = None
    products: int = 0


class Mean:
    """Σ w_b v_b / Σ w_b over the vectors of micro-batches, as they come; a single one is itself."""

    def __init__(self) -> None:
        self.weights: list[float] = []
        self._first: Vector = []
        self._total: Vector | None = None

    def add(self, vector: Vector, weight: float) -> None:
        """Take one in."""
        self.weights.append(weight)
        if len(self.weights) == 1:
            self._first = vector
            return
        if self._total is None:
            self._total = list(torch._foreach_mul(self._first, self.weights[0]))
        torch._foreach_add_(self._total, vector, alpha=weight)

    def value(self, divisor: float | None = None) -> Vector:
        """The mean, or the sum over another divisor; ValueError if there was nothing to average over."""
        total = sum(self.weights)
        if not self.weights:
            raise ValueError("There is nothing to average over on these batches (every D_b is 0): all targets ignored?")
        if self._total is None:
            return self._first
        return list(torch._foreach_div(self._total, total if divisor is None else divisor))

    def of(self, values: Sequence[Tensor]) -> Tensor:
        """The mean of numbers with the same weights."""
        if len(values) == 1:
            return values[0]
        return torch.stack([v * (w / sum(self.weights)) for v, w in zip(values, self.weights, strict=True)]).sum()


class AdaptiveOptimizer(CurvatureOptimizer):
    """Base of methods whose step is w ← (1 − ηω) w − η d, with d a running mean of gradients on a scale of its own.

    A subclass writes `_directions`, and `_look` where it wants more than the gradient. What `_look` found is checked
    before any state changes, so that a refused step leaves it as it was. State is kept in at least float32.
    """

    _scalars: tuple[str, ...] = ("steps",)
    _sums = False
    """Whether β₂ = 1 means sums in place of means."""

    def __init__(
        self,
        params: Objective | Iterable[Any],
        lr: float,
        betas: tuple[float, float],
        eps: float,
        weight_decay: float,
    ) -> None:
        _check(betas, eps, self._sums)
        super().__init__(params, {"lr": lr, "betas": betas, "weight_decay": weight_decay})
        self.eps = eps
        self.steps = 0

    @abstractmethod
    def _directions(self, weights: Weights, seen: Seen) -> Vector:
        """d, after the state has taken note of the step; memory of its own."""

    def _look(self, closure: Closure, weights: Weights) -> Seen:
        """f and g. Cost: one gradient."""
        model = LocalModel(closure, plain(weights), 0.0)
        gradient, _ = model.start(None)
        return Seen(model.loss, gradient)

    def _advance(self, closure: Closure, weights: Weights) -> tuple[Tensor, StepReport]:
        seen = self._look(closure, weights)
        if not bool(torch.isfinite(seen.loss)):
            raise Rejection("the loss is not finite", seen.loss)
        if not squares_finite(seen.gradient):
            raise Rejection("the gradient is not finite, or its square is not", seen.loss)
        if seen.diagonal is not None and not squares_finite(seen.diagonal):
            raise Rejection("the curvature is not finite, or its square is not", seen.loss)
        with torch.no_grad():
            directions = self._directions(weights, seen)
            _move(weights, directions)
        self.steps += 1
        rate = weights.lr[0] if weights.uniform else None
        return seen.loss, StepReport(float(seen.loss), step_size=rate, products=seen.products)

    def _betas(self, weights: Weights, which: int) -> list[float]:
        """β₁ or β₂ of each tensor's group."""
        of = {id(p): float(group["betas"][which]) for group in self.param_groups for p in group["params"]}
        return [of[id(w)] for w in weights.tensors]

    def _averaged(
        self, tensors: Sequence[Tensor], name: str, values: Vector, betas: Sequence[float]
    ) -> tuple[Vector, list[float]]:
        """Take `values` into the running means `name`, x̄ ← βx̄ + (1 − β)x; the means, and their weights 1 − βᵗ."""
        states = [self.state[w] for w in tensors]
        for state, value in zip(states, values, strict=True):
            if name not in state:
                dtype = torch.promote_types(value.dtype, torch.float32)
                state[name], state[f"{name}_count"] = torch.zeros_like(value, dtype=dtype), 0
            state[f"{name}_count"] += 1
        means = [state[name] for state in states]
        cast = [v if v.dtype == m.dtype else v.to(m.dtype) for v, m in zip(values, means, strict=True)]
        if len(set(betas)) == 1 and betas[0] < 1:
            torch._foreach_lerp_(means, cast, 1 - betas[0])
        else:
            for mean, value, beta in zip(means, cast, betas, strict=True):
                accumulate(mean, value, beta)
        return means, [share(beta, state[f"{name}_count"]) for state, beta in zip(states, betas, strict=True)]


def accumulate(mean: Tensor, value: Tensor, beta: float) -> None:
    """x̄ ← βx̄ + (1 − β)x; with β = 1 the sum, x̄ ← x̄ + x."""
    if beta < 1:
        mean.lerp_(value, 1 - beta)
    else:
        mean.add_(value)


def share(beta: float, count: int) -> float:
    """1 − βᵗ, the weight that t values have in a running mean begun at zero; 1 for a sum."""
    return 1 - beta**count if beta < 1 else 1.0


def plain(weights: Weights) -> Weights:
    """The same tensors without weight decay, which the adaptive methods decouple from the gradient."""
    return replace(weights, weight_decay=[0.0] * len(weights.tensors))


def squares_finite(vector: Vector) -> bool:
    """Whether ‖v‖² is a finite number in the precision that the state has."""
    norms = torch.stack(torch._foreach_norm(vector))
    return bool(torch.isfinite(norms.to(torch.promote_types(norms.dtype, torch.float32)).square().sum()))


def _move(weights: Weights, directions: Vector) -> None:
    """w ← (1 − ηω) w − η d, η and ω by group."""
    rates = list(zip(weights.lr, weights.weight_decay, strict=True))
    if any(weights.weight_decay):
        torch._foreach_mul_(weights.tensors, [1 - lr * omega for lr, omega in rates])
    if weights.uniform:
        torch._foreach_add_(weights.tensors, directions, alpha=-weights.lr[0])
        return
    torch._foreach_mul_(directions, weights.lr)
    torch._foreach_sub_(weights.tensors, directions)


def check_interval(interval: int) -> None:
    """Raise ValueError unless it is a positive integer."""
    if isinstance(interval, bool) or not isinstance(interval, int) or interval < 1:
        raise ValueError(f"Expected interval to be an integer ≥ 1, got {interval!r}.")


def _check(betas: tuple[float, float], eps: float, sums: bool) -> None:
    if not (len(betas) == 2 and all(0 <= b < 1 for b in betas[: 1 if sums else 2]) and 0 <= betas[1] <= 1):
        most = " (the second may be 1)" if sums else ""
        raise ValueError(f"Expected betas to be two numbers in [0, 1){most}, got {betas!r}.")
    if not (math.isfinite(eps) and eps >= 0):
        raise ValueError(f"Expected eps to be a finite number ≥ 0, got {eps!r}.")
