"""What the quasi-Newton methods share: the direction, the step length, and the pairs they learn from."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import replace
from typing import Any, ClassVar

import torch
from torch import Tensor

from quadric.core.errors import unknown_name
from quadric.linalg.limits import EXACT_BELOW
from quadric.objective.closure import Closure
from quadric.objective.objective import Objective
from quadric.operators.secant import Secant
from quadric.operators.secant.curvature_condition import PositiveSecant
from quadric.optim.agreement import MEMORY, Agreement
from quadric.optim.line_search import LineSearch, armijo, strong_wolfe
from quadric.optim.line_search.search import NOISE
from quadric.optim.operator_model import OperatorModel, inner
from quadric.optim.optimizer import CurvatureOptimizer, Rejection, StepReport, Weights
from quadric.optim.trial import Trial

LEAST, MOST = 0.3, 4.0
"""Bounds of δ, the damping of y on mini-batches."""

PAIRS = 20
"""Kept where the matrix would be too large."""

LINE_SEARCHES = ("auto", "strong-wolfe", None)


class QuasiNewton(CurvatureOptimizer):
    """w ← w − α η H g, H ≈ (∇²f)⁻¹ learned from pairs s = Δw, y = Δg: base of BFGS, DFP, SR1 and LBFGS.

    Both gradients of a pair are taken on the same batch with the same random numbers, so y is a difference of one
    function: g at the start of a step, and at its end. H is min(1, 1/‖g‖₁) I before there is a pair.

    Args:
        params: an `Objective`, or parameters or group dicts as torch takes them; groups may set `lr`, `weight_decay`.
        lr: η, a multiplier of the direction that schedulers drive.
        weight_decay: ω, part of the objective: f + ½ω‖w‖².
        memory: pairs that H is made of; None keeps the matrix up to 2,000 parameters, and 20 pairs beyond.
        line_search: "strong-wolfe", for the whole data set as one batch; None takes α = 1; "auto" is strong Wolfe where
            a step finds the loss and the gradient as the step before left them, as they are where each step gets all
            the data. Where it does not, as on mini-batches, α falls from 1 until the loss on the batch falls (Armijo).
        iterations: of the method a step, once steps are known to see one function: each but the first saves a gradient.

    Pairs of mini-batches, and of steps with α = 1, are damped twice. y becomes y + δ e s, with e the curvature
    |sᵀy| / sᵀs or its running mean, whichever is larger, so that H stays below about 1/(δe); δ = 8 (1 − a) within
    [0.3, 4], with a how much of the last steps the next batches would take again (`Agreement`): the more of a step is
    noise, the shorter the next. Then BFGS and DFP keep sᵀy ≥ 0.2 yᵀH y (Powell). Pairs of strong Wolfe need neither.

    A pair that would take H's definiteness away (SR1: one without a usable denominator) is left out. Cost of a step:
    a gradient at its start, one for each α tried, and a product with H: n² or 4 n m operations and numbers. A search
    that finds nothing to gain beyond rounding leaves the weights as they are and forgets the pairs; one that finds no
    finite or lower loss is refused. Raises ValueError for settings out of range.
    Reference: Nocedal and Wright (2006), chapters 6 and 7.
    """

    _scalars = ("steps", "_state")
    _secant: ClassVar[type[Secant]]
    _accuracy: ClassVar[float] = 0.9
    """c₂ of the strong Wolfe conditions."""

    def __init__(
        self,
        params: Objective | Iterable[Any],
        lr: float = 1.0,
        weight_decay: float = 0.0,
        *,
        memory: int | None = None,
        line_search: str | None = "auto",
        iterations: int = 1,
    ) -> None:
        if memory is not None and (isinstance(memory, bool) or not isinstance(memory, int) or memory < 1):
            raise ValueError(f"Expected memory=None or a number of pairs of at least 1, got {memory!r}.")
        if not (isinstance(iterations, int) and iterations >= 1):
            raise ValueError(f"Expected iterations to be an integer ≥ 1, got {iterations!r}.")
        if line_search not in LINE_SEARCHES:
            raise unknown_name("line_search", line_search, [str(name) for name in LINE_SEARCHES])
        super().__init__(params, {"lr": lr, "weight_decay": weight_decay})
        self.memory = memory
        self.line_search = line_search
        self.iterations = iterations
        self.steps = 0
        self._agreement = Agreement()
        self._approximation: Secant | None = None
        self._learned: dict[str, Any] | None = None
        """What a loaded state knows of H, until the first step says in which space."""
        self._left: tuple[float, float] | None = None
        """F and ‖g‖ where the last step ended."""
        self._curvature = 0.0
        """sᵀy of the last step."""
        self._mean = 0.0
        self._weight = 0.0

    def _advance(self, closure: Closure, weights: Weights) -> tuple[Tensor, StepReport]:
        model = OperatorModel.of(closure, weights)
        start = value = float(model.loss) + weights.decay_loss()
        repeats = self._left is not None and self._repeats(model, start)
        exact = self.line_search == "strong-wolfe" or (self.line_search == "auto" and (repeats or self._left is None))
        self._look(model)
        approximation = self._inverse_hessian(model)
        here = model
        for i in range(self.iterations if exact and repeats else 1):
            step = model.scaled(self._direction(here, approximation, exact))
            along = _Along(Trial(closure, weights), here, step)
            slope = inner(here.gradient, step)
            found = self._search(along, value, slope, exact)
            if found.alpha == 0:
                along.trial.back()
                if bool(step.any()):
                    approximation.reset()
                    if i == 0 and found.reason != NOISE and slope != 0:  # 0: its square is too small for a number
                        raise Rejection(found.reason, model.loss)
                break
            value = found.value
            here = replace(here, gradient=self._taken(here, approximation, along, found, exact))
        self._left = value, float(here.gradient.norm())
        self.steps += 1
        reason = None if found.converged else found.reason
        report = StepReport(float(model.loss), step_size=found.alpha, actual_reduction=start - value, reason=reason)
        return model.loss, report

    def _taken(
        self, model: OperatorModel, approximation: Secant, along: _Along, found: LineSearch, exact: bool
    ) -> Tensor:
        """Go to the α that was found, and learn from it; the gradient there."""
        gradient = along.end(found.alpha)
        s, y = found.alpha * along.step, gradient - model.gradient
        self._learn(approximation, s, y, exact)
        for w, part in zip(model.weights.tensors, model.objective.space.unflatten(s), strict=True):
            self.state[w]["step"] = part.clone()
        self._curvature = inner(s, y)
        return gradient

    def _repeats(self, model: OperatorModel, start: float) -> bool:
        """Whether loss and gradient are what the last step left, up to rounding: then all steps see one function."""
        assert self._left is not None
        value, norm = self._left
        eps = torch.finfo(model.loss.dtype).eps
        same = abs(start - value) <= 64 * eps * abs(value)
        return same and abs(float(model.gradient.norm()) - norm) <= math.sqrt(eps) * norm

    def _look(self, model: OperatorModel) -> None:
        """Compare the last step with what this batch says of it."""
        if self.steps == 0 or not all("step" in self.state[w] for w in model.weights.tensors):
            return
        last = model.objective.space.flatten([self.state[w]["step"] for w in model.weights.tensors])
        self._agreement.compare(inner(model.gradient, last), self._curvature)

    def _inverse_hessian(self, model: OperatorModel) -> Secant:
        """H on the space of the moved tensors."""
        space = model.objective.space
        if self._approximation is None or not self._approximation.space.same_as(space):
            memory = self.memory if self.memory is not None or space.numel <= EXACT_BELOW else PAIRS
            self._approximation = self._secant(space, memory=memory)
            if self._learned is not None:
                self._approximation.load_state(self._learned)
                self._learned = None
        return self._approximation

    def _direction(self, model: OperatorModel, approximation: Secant, exact: bool) -> Tensor:
        """−H g, turned where it ascends, as H need not be definite; −g to scale where there is no H."""
        g = model.gradient
        if approximation.accepted:
            direction = -(approximation @ g)
            slope = inner(g, direction)
            if abs(slope) > 1e-8 * float(g.norm()) * float(direction.norm()):
                return direction if slope < 0 else -direction
            approximation.reset()
        return -g * min(1.0, 1.0 / max(float(g.abs().sum()), 1e-300))

    def _search(self, along: _Along, start: float, slope: float, exact: bool) -> LineSearch:
        noise = 4 * torch.finfo(along.model.loss.dtype).eps * abs(start)
        if exact:
            return strong_wolfe(along, start, slope, c2=self._accuracy, noise=noise)
        if self.line_search == "auto":
            return armijo(lambda alpha: along(alpha)[0], start, slope, noise=noise)
        value, _ = along(1.0)
        if not math.isfinite(value):
            along.trial.back()
            raise Rejection("the loss after the step is not finite", along.model.loss)
        return LineSearch(1.0, value, None, True, 1, "")

    def _learn(self, approximation: Secant, s: Tensor, y: Tensor, exact: bool) -> None:
        if not exact:
            curvature = abs(inner(s, y)) / inner(s, s)
            self._mean = MEMORY * self._mean + (1 - MEMORY) * curvature
            self._weight = MEMORY * self._weight + (1 - MEMORY)
            y = y + max(self._damping(), self._share() * curvature) * s
        if isinstance(approximation, PositiveSecant):
            approximation.safeguard = "skip" if exact else "damp"
        approximation.update(s, y)

    def _share(self) -> float:
        """δ."""
        return min(max(8 * (1 - self._agreement.share), LEAST), MOST)

    def _damping(self) -> float:
        """δ e, e the running mean."""
        return self._share() * self._mean / self._weight if self._weight else 0.0

    def _raise_damping(self) -> None:
        """After a refused step: begin anew, from the gradient."""
        if self._approximation is not None:
            self._approximation.reset()

    @property
    def _state(self) -> dict[str, Any]:
        approximation = self._learned if self._approximation is None else self._approximation.state()
        return {
            **vars(self._agreement),
            "left": self._left,
            "curvature": self._curvature,
            "mean": self._mean,
            "weight": self._weight,
            "approximation": approximation,
        }

    @_state.setter
    def _state(self, state: dict[str, Any]) -> None:
        vars(self._agreement).update({name: state[name] for name in vars(self._agreement)})
        self._left, self._curvature = state["left"], state["curvature"]
        self._mean, self._weight = state["mean"], state["weight"]
        self._approximation, self._learned = None, state["approximation"]


class _Along:
    """α → F(w + α s) and its slope along s; remembers the gradients where it was last, and where F was lowest."""

    def __init__(self, trial: Trial, model: OperatorModel, step: Tensor) -> None:
        self.trial, self.model, self.step = trial, model, step
        self.parts = model.objective.space.unflatten(step)
        self.seen: dict[float, Tensor] = {0.0: model.gradient}
        self.lowest = (math.inf, 0.0)

    def __call__(self, alpha: float) -> tuple[float, float]:
        """F and its slope."""
        value, parts = self.trial.gradient(self.parts, alpha)
        gradient = self.model.objective.space.flatten(parts)
        if not bool(torch.isfinite(gradient).all()):
            value = math.inf
        kept = {0.0, self.lowest[1]}
        if value < self.lowest[0]:
            self.lowest = value, alpha
            kept.add(alpha)
        self.seen = {a: g for a, g in self.seen.items() if a in kept}
        self.seen[alpha] = gradient
        return value, inner(gradient, self.step)

    def end(self, alpha: float) -> Tensor:
        """Go to w + α s; the gradient there."""
        self.trial.move(self.parts, alpha)
        self.trial.keep()
        return self.seen[alpha]
