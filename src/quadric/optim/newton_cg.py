"""Hessian-free optimisation: Newton's step by truncated conjugate gradients."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

from quadric.core.errors import unknown_name
from quadric.curvature import EmpiricalFisher
from quadric.linalg import Truncated, diagonal, truncated_cg
from quadric.objective.closure import Closure
from quadric.objective.objective import Objective
from quadric.operators import Diagonal, LinearOperator
from quadric.optim.damped import DampedOptimizer
from quadric.optim.line_search import LineSearch, armijo
from quadric.optim.line_search.search import NOISE, NOT_DESCENT
from quadric.optim.operator_model import OperatorModel, check_combination, inner
from quadric.optim.optimizer import Rejection, StepReport, Weights
from quadric.optim.trial import Trial

EXPONENT = 0.75
"""Martens's: of the diagonal preconditioner."""

SUFFICIENT = 1e-2
"""Martens's share of the slope by which the loss must fall."""

Preconditioner = Callable[[LinearOperator, float], LinearOperator]


class NewtonCG(DampedOptimizer):
    """Hessian-free optimisation: w ← w + η s, s from conjugate gradients on (C + λI) s = −g, stopped early.

    g and C are the batch's, with the weight decay. The iteration starts from the last solution times `warm_start` and
    ends where the model's progress becomes small (`truncated_cg`). Of a few of its iterates the loss takes the last
    that is better than the one before it, and goes back along it until the loss falls enough (Armijo).

    Args:
        params: an `Objective`, or parameters or group dicts as torch takes them; groups may set `lr`, `weight_decay`.
        lr: η, a multiplier of the step that schedulers drive.
        damping: λ. None is a share of the curvature along the gradient (`RelativeDamping`); a number is the first λ.
        weight_decay: ω, part of the model: g + ωw and C + ωI.
        curvature: "ggn", "hessian", "fisher" or "empirical-fisher". Of the Hessian, the first direction of zero or
            negative curvature ends the iteration, and the step goes on along it.
        adapt: λ follows the ratio of actual to predicted reduction, as in `Newton`. With `adapt=False` λ stays, and the
            last iterate is taken as it is.
        max_iterations: of conjugate gradients a step.
        progress: ε, the relative progress an iteration must make.
        warm_start: share of the last solution to start from; 0 starts anew.
        preconditioner: None; "empirical-fisher" for (diag E + λI)^¾, E the empirical Fisher; or a function of C and λ
            that returns an operator P ≈ (C + λI)⁻¹, as
            `lambda C, damping: quadric.linalg.nystrom_preconditioner(C, damping, rank=20)` or
            `lambda C, damping: quadric.inverse(quadric.KFAC(C.objective, C.data), damping)`.

    Cost of a step: a gradient, a product for each iteration of CG, with `adapt` three more and a forward pass for each
    evaluation. State: the last step and the last solution. Raises ValueError for settings out of range.
    References: Martens (2010), Deep learning via Hessian-free optimization; Martens and Sutskever (2012), Training deep
    and recurrent networks with Hessian-free optimization.
    """

    def __init__(
        self,
        params: Objective | Iterable[Any],
        lr: float = 1.0,
        damping: float | None = None,
        weight_decay: float = 0.0,
        *,
        curvature: str = "ggn",
        adapt: bool = True,
        max_iterations: int = 50,
        progress: float = 5e-4,
        warm_start: float = 0.95,
        preconditioner: str | Preconditioner | None = None,
    ) -> None:
        check_combination(curvature, "full")
        if not (isinstance(max_iterations, int) and max_iterations >= 1):
            raise ValueError(f"Expected max_iterations to be an integer ≥ 1, got {max_iterations!r}.")
        if not (math.isfinite(progress) and progress >= 0):
            raise ValueError(f"Expected progress to be a finite number ≥ 0, got {progress!r}.")
        if not 0 <= warm_start <= 1:
            raise ValueError(f"Expected warm_start from 0 to 1, got {warm_start!r}.")
        if isinstance(preconditioner, str) and preconditioner != "empirical-fisher":
            raise unknown_name("preconditioner", preconditioner, ["empirical-fisher"])
        if not (preconditioner is None or isinstance(preconditioner, str) or callable(preconditioner)):
            raise TypeError(
                "Expected preconditioner to be None, 'empirical-fisher' or a function of the curvature and λ that "
                f"returns an operator, got {type(preconditioner).__name__}. For an operator P: lambda C, damping: P."
            )
        super().__init__(params, lr, damping, weight_decay, adapt)
        self.curvature = curvature
        self.max_iterations = max_iterations
        self.progress = progress
        self.warm_start = warm_start
        self.preconditioner = preconditioner

    def _advance(self, closure: Closure, weights: Weights) -> tuple[Tensor, StepReport]:
        model = OperatorModel.of(closure, weights)
        plain = model.curvature(self.curvature, self.steps)
        operator = model.decayed(plain)
        if self.adapt:
            self._look(model, operator)
        damping = self.damping.value
        found = self._solve(model, plain, operator, damping)
        candidates = [_descending(model, found), *found.earlier]
        trial = Trial(closure, weights)
        predicted = actual = None
        if self.adapt:
            step, search, actual = self._backtrack(model, trial, candidates)
            trial.back()
            predicted = -model.change(operator, step)
            if 0 < search.alpha < 1:
                self.damping.increase()  # short steps keep the model's word whatever it is worth
            elif search.alpha == 1 and abs(predicted) > model.rounding:
                self.damping.learn(actual / predicted if predicted > 0 else -math.inf)
        else:
            step = model.scaled(candidates[0])
        trial.move(model.objective.space.unflatten(step))
        trial.keep()
        self._stepped(model, step)
        for w, x in zip(weights.tensors, model.objective.space.unflatten(found.solution), strict=True):
            self.state[w]["solution"] = x.clone()
        report = StepReport(
            float(model.loss),
            damping,
            step_size=weights.lr[0],
            predicted_reduction=predicted,
            actual_reduction=actual,
            products=found.products,
        )
        return model.loss, report

    def _solve(
        self, model: OperatorModel, plain: LinearOperator, operator: LinearOperator, damping: float
    ) -> Truncated:
        try:
            return truncated_cg(
                operator,
                -model.gradient,
                damping=damping,
                start=self._start(model),
                preconditioner=self._preconditioner(model, plain, damping),
                max_iterations=self.max_iterations,
                progress=self.progress,
            )
        except ValueError as error:
            if "is not finite" not in str(error):
                raise
            raise Rejection("the curvature is not finite", model.loss) from error

    def _start(self, model: OperatorModel) -> Tensor | None:
        states = [self.state[w] for w in model.weights.tensors]
        if not (self.warm_start and all("solution" in state for state in states)):
            return None
        return self.warm_start * model.objective.space.flatten([state["solution"] for state in states])

    def _preconditioner(self, model: OperatorModel, plain: LinearOperator, damping: float) -> LinearOperator | None:
        """P, made anew for each step."""
        if self.preconditioner is None:
            return None
        if not isinstance(self.preconditioner, str):
            return self.preconditioner(plain, damping)
        batches = model.closure.batches
        data: Any = batches[0] if len(batches) == 1 else list(batches)
        entries = diagonal(EmpiricalFisher(model.objective, data, seed=model.closure.random)).values + damping
        floor = torch.finfo(entries.dtype).eps * float(entries.max())
        return Diagonal(entries.clamp_min(floor).pow(-EXPONENT), model.objective.space)

    def _backtrack(
        self, model: OperatorModel, trial: Trial, candidates: list[Tensor]
    ) -> tuple[Tensor, LineSearch, float]:
        """The step that the loss wants, an iterate or a share of one; the search for it; the fall of the loss."""
        start = float(model.loss) + model.weights.decay_loss()
        unflatten = model.objective.space.unflatten
        step = model.scaled(candidates[0])
        value = trial.value(unflatten(step))
        for candidate in candidates[1:]:
            earlier = model.scaled(candidate)
            value_there = trial.value(unflatten(earlier))
            if not value_there < value:
                break
            step, value = earlier, value_there
        rounding = model.rounding
        found = armijo(
            lambda share: value if share == 1.0 else trial.value(unflatten(step), share),
            start,
            inner(model.gradient, step),
            c1=SUFFICIENT,
            noise=rounding,
        )
        if found.alpha == 0 and found.reason not in (NOISE, NOT_DESCENT):
            trial.back()
            raise Rejection(found.reason, model.loss)
        return found.alpha * step, found, start - found.value


def _descending(model: OperatorModel, found: Truncated) -> Tensor:
    """The end of the iteration, beyond it along a direction of negative curvature, turned so that the loss falls.

    Where −s is the one that descends, it is also the better step for the model, whose curvature along s is negative.
    """
    step = found.solution if found.negative_curvature is None else found.solution + found.negative_curvature
    return -step if inner(model.gradient, step) > 0 else step
