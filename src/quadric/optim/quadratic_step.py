"""A step size for any first-order optimiser, from the quadratic model of the next batch along its last step."""

from __future__ import annotations

import math
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from quadric.objective.closure import Closure
from quadric.objective.objective import Objective
from quadric.optim.adaptive import plain, squares_finite
from quadric.optim.model import LocalModel, Vector
from quadric.optim.optimizer import CurvatureOptimizer, Rejection, StepReport, Weights

FASTEST = 1.2
"""The factor by which a changes in one step at most, but for the cap."""
MODEL_MEMORY, LOSS_MEMORY = 0.95, 0.9
"""Weights of the past in the means of the model, and of the loss and its slope."""


@dataclass
class StepSize:
    """a, and the running means that it follows; their start's bias cancels in the ratios."""

    value: float = 0.0
    wanted: float = 0.0
    curvature: float = 0.0
    loss: float = 0.0
    slope: float = 0.0
    seen: bool = False
    """Whether there has been a model along a last direction."""

    def see_model(self, slope: float, curvature: float) -> None:
        """Take note of g′ᵀd and dᵀG′d, d the last direction: this batch wanted (a D + g′ᵀd) / D of it."""
        keep, take = MODEL_MEMORY, 1 - MODEL_MEMORY
        self.wanted = keep * self.wanted + take * (self.value * curvature + slope)
        self.curvature = keep * self.curvature + take * curvature
        self.seen = True

    def see_loss(self, loss: float, slope: float) -> None:
        """Take note of f and gᵀd, d the new direction."""
        keep, take = LOSS_MEMORY, 1 - LOSS_MEMORY
        self.loss = keep * self.loss + take * loss
        self.slope = keep * self.slope + take * slope

    def move(self, share: float) -> float:
        """a for the new direction."""
        if self.seen:
            target = self.wanted / self.curvature if self.curvature > 0 else self.value
            self.value = min(max(target, self.value / FASTEST), self.value * FASTEST)
        if self.slope > 0 and self.loss > 0:
            self.value = min(self.value, share * self.loss / self.slope)
        return self.value


class QuadraticStep(CurvatureOptimizer):
    """Any first-order optimiser of torch's without a learning rate: w ← w − η a d.

    −d is the wrapped optimiser's step at lr = 1, and a is found along the way. Every batch has a model along the last
    direction d, whose minimum lies at a* = a + g′ᵀd / D, D = dᵀG′d, counted from where that step began. As the batch is
    another than the one that chose d, noise does not look like progress: minimising over the same batch over-steps by
    far. With running means over time,

        a → mean(a D + g′ᵀd) / mean(D),  by at most a fifth a step,    a ≤ c · mean(f) / mean(gᵀd)

    the cap being that no step may ask for more than the share c of the loss. The first a is the minimiser of the first
    batch's model, under the same cap. The cap presumes a loss whose least value is not far below 0; it is dropped where
    the mean loss is not positive.

    Args:
        optimizer: torch's or one like it: its step has to be proportional to `lr` and to need no closure. Its own
            learning rates only count relative to each other; momentum, weight decay and the rest stay as they are. Do
            not step it, or schedule it, yourself.
        objective: what the closures evaluate.
        lr: η; schedulers of this optimiser drive it.
        share: c.

    State: one buffer per parameter beyond the wrapped optimiser's. Cost: a gradient and a tangent pass (5/3 gradients
    in matrix products), a copy of the weights. Raises TypeError for an optimiser that needs a closure, ValueError for
    settings out of range and for a loss without a Gauss–Newton matrix. See benchmarks/quadratic_step.py for what it was
    compared with: the rule with no curvature at all, the tuned constant, the same batch.
    """

    _scalars = ("steps", "_size_state", "_wrapped_state")

    def __init__(
        self, optimizer: torch.optim.Optimizer, objective: Objective, *, lr: float = 1.0, share: float = 0.1
    ) -> None:
        if isinstance(optimizer, (CurvatureOptimizer, torch.optim.LBFGS)):
            raise TypeError(
                f"QuadraticStep wraps a first-order optimiser, such as torch.optim.Adam(model.parameters()); "
                f"{type(optimizer).__name__} evaluates the closure itself and finds its own step size."
            )
        if not 0 < share <= 1:
            raise ValueError(f"Expected share in (0, 1], got {share!r}.")
        rates = [float(group["lr"]) for group in optimizer.param_groups]
        top = max(rates)
        if not top > 0:
            raise ValueError("Expected the wrapped optimiser to have a learning rate above 0 in some group.")
        groups = [
            {"params": list(group["params"]), "lr": lr * rate / top}
            for group, rate in zip(optimizer.param_groups, rates, strict=True)
        ]
        super().__init__(groups, {"lr": lr, "weight_decay": 0.0})
        self.wrapped = optimizer
        self.share = share
        self.size = StepSize()
        self.steps = 0
        self._weights(objective)  # its refusal where the two do not fit

    def _advance(self, closure: Closure, weights: Weights) -> tuple[Tensor, StepReport]:
        model = LocalModel(closure, plain(weights), 1.0)
        gradient, _ = model.start(None, retain=True)
        if not bool(torch.isfinite(model.loss)):
            raise Rejection("the loss is not finite", model.loss)
        if not squares_finite(gradient):
            raise Rejection("the gradient is not finite, or its square is not", model.loss)
        begun = self.size.value > 0
        if begun:
            self.size.see_model(*self._along(model, self._last(weights)))
        wrapped = None if begun else deepcopy(self.wrapped.state_dict())
        d = self._direction(weights, gradient)
        slope = _dot(gradient, d)
        if wrapped is not None:
            try:
                _, curvature = self._along(model, d)
            except Rejection:
                self.wrapped.load_state_dict(wrapped)
                raise
            self.size.value = max(slope / curvature, 0.0) if curvature > 0 else 0.0
        self.size.see_loss(float(model.loss), slope)
        a = self.size.move(self.share)
        with torch.no_grad():
            torch._foreach_add_(weights.tensors, d, alpha=-a)
        for w, v in zip(weights.tensors, d, strict=True):
            self.state[w]["direction"] = v
        self.steps += 1
        return model.loss, StepReport(float(model.loss), step_size=a, products=model.products)

    def _last(self, weights: Weights) -> Vector:
        """The last direction; zero where a parameter is new."""
        states = [self.state[w] for w in weights.tensors]
        return [
            s["direction"] if "direction" in s else torch.zeros_like(w)
            for s, w in zip(states, weights.tensors, strict=True)
        ]

    def _along(self, model: LocalModel, direction: Vector) -> tuple[float, float]:
        """gᵀd and dᵀGd on this batch."""
        curvature, _, slope = model.gram([model.push(direction)])
        found = float(slope[0]), float(curvature[0, 0])
        if not all(map(math.isfinite, found)):
            raise Rejection("the curvature is not finite", model.loss)
        return found

    def _direction(self, weights: Weights, gradient: Vector) -> Vector:
        """η d from a step of the wrapped optimiser, which is taken back."""
        for w, g in zip(weights.tensors, gradient, strict=True):
            w.grad = g
        rates = [group["lr"] for group in self.wrapped.param_groups]
        before = [w.detach().clone() for w in weights.tensors]
        try:
            for group in self.wrapped.param_groups:
                group["lr"] = 1.0
            self.wrapped.step()
        finally:
            for group, rate in zip(self.wrapped.param_groups, rates, strict=True):
                group["lr"] = rate
        d = list(torch._foreach_sub(before, [w.detach() for w in weights.tensors]))
        with torch.no_grad():
            torch._foreach_copy_(weights.tensors, before)
        if len(set(weights.lr)) > 1 or weights.lr[0] != 1:
            torch._foreach_mul_(d, weights.lr)
        return d

    @property
    def _size_state(self) -> dict[str, Any]:
        return dict(vars(self.size))

    @_size_state.setter
    def _size_state(self, state: dict[str, Any]) -> None:
        vars(self.size).update(state)

    @property
    def _wrapped_state(self) -> dict[str, Any]:
        return self.wrapped.state_dict()

    @_wrapped_state.setter
    def _wrapped_state(self, state: dict[str, Any]) -> None:
        self.wrapped.load_state_dict(deepcopy(state))


def _dot(a: Vector, b: Vector) -> float:
    return float(torch.stack([(x * y).sum(dtype=torch.float64) for x, y in zip(a, b, strict=True)]).sum())
