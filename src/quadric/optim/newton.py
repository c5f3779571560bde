"""Newton's method with a curvature, a structure, a damping and a correction chosen by name."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from quadric.linalg import inverse
from quadric.objective.closure import Closure
from quadric.objective.objective import Objective
from quadric.operators import LinearOperator, NotPositiveDefinite
from quadric.optim.damped import DampedOptimizer
from quadric.optim.operator_model import OperatorModel, check_combination, inner
from quadric.optim.optimizer import Rejection, StepReport, Weights
from quadric.optim.trial import Trial

ATTEMPTS = 12
"""Steps tried, each with more damping than the one before, until the loss falls."""


class Newton(DampedOptimizer):
    """w ← w − η [(C + λI)⁻¹ + αI] g, with C the batch's curvature and g its gradient, both with the weight decay.

    Args:
        params: an `Objective`, or parameters or group dicts as torch takes them; groups may set `lr`, `weight_decay`.
        lr: η, a multiplier of the step that schedulers drive.
        damping: λ. None is a share of the curvature along the gradient (`RelativeDamping`); a number is the first λ.
        correction: α; with `adapt` the first one.
        weight_decay: ω, part of the model: g + ωw and C + ωI.
        curvature: "ggn", "hessian", "fisher" (Monte Carlo) or "empirical-fisher".
        structure: of C. "full" (n products and a factorisation up to `dense_below` parameters, conjugate gradients to a
            relative residual of `tol` beyond), "diagonal", "block-diagonal" (by layer), "low-rank" of `rank`, or
            "kronecker" (K-FAC; not of the Hessian).
        adapt: λ and α follow the ratio γ of actual to predicted reduction on the same batch: more λ and less α where
            the model promised too much, the reverse where it kept its word. A step that raises the loss is tried again
            with more damping, on the same batch; one that still does is refused. Where C + λI is not positive definite
            λ rises until it is. With `adapt=False` the formula above is all that happens.

    The correction's step −ηαg never goes beyond the model's minimum along g. Cost of a step: a gradient, the inverse of
    C in its structure, and with `adapt` two products of it and a forward pass. Raises ValueError for names or
    combinations that there are none of. References: Levenberg (1944); Marquardt (1963); Nocedal and Wright (2006),
    chapter 10; for α see the docs.
    """

    def __init__(
        self,
        params: Objective | Iterable[Any],
        lr: float = 1.0,
        damping: float | None = None,
        correction: float = 0.0,
        weight_decay: float = 0.0,
        *,
        curvature: str = "ggn",
        structure: str = "full",
        adapt: bool = True,
        rank: int = 20,
        tol: float = 1e-3,
        dense_below: int = 200,
    ) -> None:
        check_combination(curvature, structure)
        if not (math.isfinite(correction) and correction >= 0):
            raise ValueError(f"Expected correction to be a finite number ≥ 0, got {correction!r}.")
        super().__init__(params, lr, damping, weight_decay, adapt)
        self.curvature = curvature
        self.structure = structure
        self.rank = rank
        self.tol = tol
        self.dense_below = dense_below
        self.correction = correction

    def _advance(self, closure: Closure, weights: Weights) -> tuple[Tensor, StepReport]:
        model = OperatorModel.of(closure, weights)
        operator = model.structured(self.curvature, self.structure, rank=self.rank, seed=self.steps)
        if self.adapt:
            self._look(model, operator)
        trial = Trial(closure, weights)
        start, rounding = float(model.loss) + weights.decay_loss(), model.rounding
        for _ in range(ATTEMPTS if self.adapt else 1):
            damping = self.damping.value
            direction = self._solve(model, operator)
            step = model.scaled(direction)
            predicted = -model.change(operator, step) if self.adapt else None
            value = trial.value(model.objective.space.unflatten(step)) if self.adapt else None
            if value is None or value <= start + rounding:
                break
            trial.back()
            self._less_trust()
        else:
            raise Rejection(f"the loss rises even with damping {damping:.3g}", model.loss)
        actual = None
        if value is None:
            trial.move(model.objective.space.unflatten(step))
        else:
            actual = start - value
            if predicted is not None and abs(predicted) > rounding:
                self._learn(actual / predicted)
        trial.keep()
        self._stepped(model, step)
        report = StepReport(
            float(model.loss), damping, step_size=weights.lr[0], predicted_reduction=predicted, actual_reduction=actual
        )
        return model.loss, report

    def _solve(self, model: OperatorModel, operator: LinearOperator) -> Tensor:
        """−[(C + λI)⁻¹ + αI] g."""
        while True:
            try:
                newton = self._inverse(operator) @ model.gradient
                break
            except NotPositiveDefinite as found:
                if not self.adapt:
                    raise Rejection(str(found), model.loss) from found
                self.damping.raise_to(2 * (self.damping.value + max(-found.smallest, 1e-6 * found.largest)))
        if not bool(torch.isfinite(newton).all()):
            raise Rejection("the Newton step is not finite", model.loss)
        return -(newton + self._correction(model, operator, newton) * model.gradient)

    def _inverse(self, operator: LinearOperator) -> LinearOperator:
        iterative = self.structure == "full" and operator.shape[0] > self.dense_below
        return inverse(operator, self.damping.value, solver="cg" if iterative else None, tol=self.tol)

    def _correction(self, model: OperatorModel, operator: LinearOperator, newton: Tensor) -> float:
        """α, with `adapt` at most the minimiser of the model along −g from the Newton step on."""
        if not self.correction or not self.adapt:
            return self.correction
        g = model.gradient
        image = operator @ g
        slope, curvature = inner(g, g) - inner(image, newton), inner(g, image)
        return min(self.correction, max(slope, 0.0) / curvature) if curvature > 0 else self.correction

    def _learn(self, ratio: float) -> None:
        before = self.damping.scale
        self.damping.learn(ratio)
        self.correction *= before / self.damping.scale

    def _less_trust(self) -> None:
        self.damping.increase()
        self.correction /= 4

    @property
    def _state(self) -> dict[str, Any]:
        return {**super()._state, "correction": self.correction}

    @_state.setter
    def _state(self, state: dict[str, Any]) -> None:
        self.correction = state["correction"]
        vars(self.damping).update({name: value for name, value in state.items() if name != "correction"})
