"""Newton's method in a trust region."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from quadric.linalg.steihaug import steihaug
from quadric.linalg.trust_exact import in_eigenbasis
from quadric.linalg.trust_region_step import TrustRegionStep
from quadric.objective.closure import Closure
from quadric.objective.objective import Objective
from quadric.operators import LinearOperator
from quadric.optim.agreement import Agreement
from quadric.optim.operator_model import OperatorModel, check_combination, inner
from quadric.optim.optimizer import CurvatureOptimizer, Rejection, StepReport, Weights
from quadric.optim.trial import Trial

ATTEMPTS = 12
"""Radii tried, each smaller than the one before, until the loss falls."""


class TrustRegion(CurvatureOptimizer):
    """w ← w + η p, p the minimiser of gᵀp + ½ pᵀC p over ‖p‖ ≤ Δ, with the batch's g and C, weight decay included.

    Δ follows γ, the actual over the predicted reduction on the same batch: to a quarter of ‖p‖ where γ < 1/4, to twice
    Δ where γ > 3/4 and p reached the boundary. A step that does not lower the loss is taken back and tried again with
    the smaller Δ. On mini-batches the next batch has a say as well (`Agreement`): Δ / 1.1 where the last steps were
    more than half noise, and Δ grows only where they were not.

    Args:
        params: an `Objective`, or parameters or group dicts as torch takes them; groups may set `lr`, `weight_decay`.
        lr: η, a multiplier of the step that schedulers drive.
        radius: the first Δ; None is the distance to the minimum of the model along −g.
        weight_decay: ω, part of the model: g + ωw and C + ωI.
        curvature: "hessian", which may be indefinite, "ggn", "fisher" or "empirical-fisher".
        exact_below: up to this many parameters the subproblem is solved exactly, by n products and the eigenvalues of C
            (Moré and Sorensen 1983); beyond by conjugate gradients (Steihaug 1983) to ‖g + C p‖ ≤ `tol` ‖g‖.
        max_iterations: of conjugate gradients a step.

    Cost of a step: a gradient, the products of the subproblem, one more, and a forward pass, for each Δ that is tried.
    Raises ValueError for settings out of range. Reference: Nocedal and Wright (2006), algorithm 4.1.
    """

    _scalars = ("steps", "radius", "_state")

    def __init__(
        self,
        params: Objective | Iterable[Any],
        lr: float = 1.0,
        radius: float | None = None,
        weight_decay: float = 0.0,
        *,
        curvature: str = "hessian",
        exact_below: int = 200,
        tol: float = 0.1,
        max_iterations: int = 50,
    ) -> None:
        check_combination(curvature, "full")
        if radius is not None and not (math.isfinite(radius) and radius > 0):
            raise ValueError(f"Expected radius to be None or a finite number > 0, got {radius!r}.")
        if not (isinstance(max_iterations, int) and max_iterations >= 1):
            raise ValueError(f"Expected max_iterations to be an integer ≥ 1, got {max_iterations!r}.")
        if not 0 < tol < 1:
            raise ValueError(f"Expected tol between 0 and 1, got {tol!r}.")
        super().__init__(params, {"lr": lr, "weight_decay": weight_decay})
        self.radius = radius
        self.curvature = curvature
        self.exact_below = exact_below
        self.tol = tol
        self.max_iterations = max_iterations
        self.steps = 0
        self._agreement = Agreement()

    def _advance(self, closure: Closure, weights: Weights) -> tuple[Tensor, StepReport]:
        model = OperatorModel.of(closure, weights)
        operator = model.decayed(model.curvature(self.curvature, self.steps))
        radius = self._look(model, operator)
        solve = self._solver(model, operator)
        trial = Trial(closure, weights)
        start = float(model.loss) + weights.decay_loss()
        rounding = model.rounding
        for _ in range(ATTEMPTS):
            found = self._solved(model, solve, radius)
            step = model.scaled(found.step)
            predicted = found.reduction if weights.lr == [1.0] * len(weights.lr) else -model.change(operator, step)
            actual = start - trial.value(model.objective.space.unflatten(step))
            negligible = abs(predicted) <= rounding and actual >= -rounding
            taken = radius
            if not negligible:
                radius = self._adapted(radius, found, actual / predicted if predicted > 0 else -math.inf)
            if actual > 0 or negligible:
                break
            trial.back()
        else:
            self.radius = radius
            raise Rejection(f"the loss rises even in a trust region of radius {taken:.3g}", model.loss)
        trial.keep()
        self.radius = radius
        for w, d in zip(weights.tensors, model.objective.space.unflatten(step), strict=True):
            self.state[w]["step"] = d.clone()
        self.steps += 1
        report = StepReport(
            float(model.loss),
            step_size=weights.lr[0],
            predicted_reduction=predicted,
            actual_reduction=actual,
            products=found.products,
        )
        return model.loss, report

    def _look(self, model: OperatorModel, operator: LinearOperator) -> float:
        """Δ, after this batch's model has been asked about the last step; the first Δ where there is none."""
        g = model.gradient
        if self.radius is None:
            norm, curvature = float(g.norm()), abs(model.quadratic(operator, g))
            return norm**3 / curvature if curvature > 0 else 1.0
        if all("step" in self.state[w] for w in model.weights.tensors):
            last = model.objective.space.flatten([self.state[w]["step"] for w in model.weights.tensors])
            self._agreement.compare(inner(g, last), model.quadratic(operator, last))
            if self._agreement.noisy:
                return self.radius / 1.1
        return self.radius

    def _solver(self, model: OperatorModel, operator: LinearOperator) -> Callable[[float], TrustRegionStep]:
        """Δ → the step; what does not depend on Δ is done once."""
        g = model.gradient
        if operator.shape[0] > self.exact_below:
            return lambda radius: steihaug(operator, g, radius, tol=self.tol, max_iterations=self.max_iterations)
        matrix = operator.to_dense().double()
        if not bool(torch.isfinite(matrix).all()):
            raise Rejection("the curvature is not finite", model.loss)
        values, vectors = torch.linalg.eigh((matrix + matrix.T) / 2)
        vectors[(g == 0) & (matrix == 0).all(1)] = 0.0  # what this batch says nothing of stays, rounding errors or not
        coefficients = vectors.T @ g.double()
        # where C is singular, as Gauss–Newton matrices are, rounding errors of g must not be followed to the boundary
        rounding = 64 * torch.finfo(g.dtype).eps
        values[values.abs() <= rounding * values.abs().max()] = 0.0
        coefficients[(values == 0) & (coefficients.abs() <= rounding * coefficients.norm())] = 0.0
        return lambda radius: in_eigenbasis(values, vectors, coefficients, radius)

    def _solved(
        self, model: OperatorModel, solve: Callable[[float], TrustRegionStep], radius: float
    ) -> TrustRegionStep:
        try:
            found = solve(radius)
        except ValueError as error:
            if "is not finite" not in str(error):
                raise
            raise Rejection("the curvature is not finite", model.loss) from error
        return replace(found, step=found.step.to(model.gradient.dtype))

    def _adapted(self, radius: float, found: TrustRegionStep, ratio: float) -> float:
        if not ratio >= 0.25:
            return found.length / 4
        if ratio > 0.75 and found.on_boundary and self._agreement.sound:
            return 2 * radius
        return radius

    def _raise_damping(self) -> None:
        if self.radius is not None:
            self.radius /= 4

    @property
    def _state(self) -> dict[str, Any]:
        return dict(vars(self._agreement))

    @_state.setter
    def _state(self, state: dict[str, Any]) -> None:
        vars(self._agreement).update(state)
