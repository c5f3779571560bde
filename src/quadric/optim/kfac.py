"""K-FAC: Kronecker-factored natural gradient, with step size and momentum from the exact quadratic model."""

from __future__ import annotations

import math
from collections.abc import Iterable
from contextlib import nullcontext
from copy import copy
from typing import Any

import numpy as np
import torch
from torch import Tensor

from quadric.core.errors import ConvergenceError
from quadric.core.space import Space
from quadric.curvature import KFAC as Factored
from quadric.curvature.kronecker.coverage import Coverage
from quadric.curvature.kronecker.passes import Forward
from quadric.linalg import inverse, trace
from quadric.objective.batch import Batch
from quadric.objective.closure import Closure
from quadric.objective.objective import Objective
from quadric.operators import (
    BlockDiagonal,
    Dense,
    Diagonal,
    EigenKronecker,
    Kronecker,
    LinearOperator,
    factored_damping,
)
from quadric.optim.factor_damping import FactorDamping
from quadric.optim.model import LocalModel, Vector
from quadric.optim.operator_model import inner
from quadric.optim.optimizer import CurvatureOptimizer, Rejection, StepReport, Weights
from quadric.optim.subspace import change, minimiser, share_within
from quadric.optim.trial import Trial


class KFAC(CurvatureOptimizer):
    """s ← −α P⁻¹g + μ s, w ← w + η s, with P ≈ F + (λ + ω)I Kronecker-factored and g the gradient with weight decay.

    (α, μ) minimise the quadratic model of the exact Gauss–Newton matrix, damped by λ + ω, in the span of P⁻¹g and the
    last step. Works untuned.

    Args:
        params: an `Objective`, or parameters or group dicts as torch takes them; groups may set `lr`, `weight_decay`.
        lr: η, a multiplier of the step that schedulers drive. The model predicts the step actually taken.
        damping: λ. None is a share of F's mean eigenvalue, tr F / n, above the noise of the factors (`FactorDamping`);
            a number is the first λ.
        momentum: μ; None solves for it at each step.
        step_size: α; None solves for it at each step. With both given no tangent pass is taken.
        weight_decay: ω, part of the model.
        fisher: whose second moments the factors are: "mc" (one sample), "exact" or "empirical"; see `quadric.KFAC`.
        sharing: "expand" or "reduce", over the places that share weights.
        decay: of the factors' running average; the mean of all so far while that is shorter.
        factor_interval: the factors take in every so many batches.
        inverse_interval: P⁻¹ is made anew every so many steps, and at each of the first three.
        adapt_damping: λ follows the ratio of actual to predicted reduction on the same batch, measured every
            `ratio_interval` steps, and whether the next batch agrees with the last step. False keeps it.

    `coverage` says what each parameter got. State: the last step, one tensor per parameter, the factors and their
    inverses. Cost: a gradient, two tangent passes, the factors (`quadric.KFAC`), two products with each layer's
    factors. Raises ValueError for settings out of range. Reference: Martens and Grosse (2015), Optimizing neural
    networks with Kronecker-factored approximate curvature, sections 6 and 7 (the damping rule is ours).
    """

    _scalars = ("steps", "_damping_state", "_curvature_state")

    def __init__(
        self,
        params: Objective | Iterable[Any],
        lr: float = 1.0,
        damping: float | None = None,
        momentum: float | None = None,
        step_size: float | None = None,
        weight_decay: float = 0.0,
        *,
        fisher: str = "mc",
        sharing: str = "expand",
        decay: float = 0.95,
        factor_interval: int = 1,
        inverse_interval: int = 10,
        ratio_interval: int = 5,
        adapt_damping: bool = True,
    ) -> None:
        for name, value in (("damping", damping), ("momentum", momentum), ("step_size", step_size)):
            if value is not None and not (math.isfinite(value) and value >= 0):
                raise ValueError(f"Expected {name} to be None (automatic) or a finite number ≥ 0, got {value!r}.")
        if not 0 <= decay < 1:
            raise ValueError(f"Expected a decay from 0 to below 1, got {decay!r}.")
        intervals = {
            "factor_interval": factor_interval,
            "inverse_interval": inverse_interval,
            "ratio_interval": ratio_interval,
        }
        for name, interval in intervals.items():
            if isinstance(interval, bool) or not isinstance(interval, int) or interval < 1:
                raise ValueError(f"Expected {name} to be an integer ≥ 1, got {interval!r}.")
        super().__init__(params, {"lr": lr, "weight_decay": weight_decay, "momentum": momentum})
        self.momentum = momentum
        self.step_size = step_size
        self.fisher = fisher
        self.sharing = sharing
        self.decay = decay
        self.factor_interval = factor_interval
        self.inverse_interval = inverse_interval
        self.ratio_interval = ratio_interval
        self.damping = FactorDamping(damping, adapt_damping)
        self.steps = 0
        self._operator: Factored | None = None
        self._inverse: BlockDiagonal | None = None
        self._loaded: dict[str, Any] = {}

    @property
    def coverage(self) -> Coverage:
        """What each parameter got from K-FAC, and why. Raises ValueError before the first step."""
        if self._operator is None:
            raise ValueError("The layers are looked at in the first step: take one before asking for the coverage.")
        return self._operator.coverage

    # ---- one step

    def _advance(self, closure: Closure, weights: Weights) -> tuple[Tensor, StepReport]:
        before = copy(self._operator), copy(self.damping)  # shallow: updates replace what they change
        try:
            return self._step(closure, weights)
        except BaseException:
            self._operator, self.damping = before
            raise

    def _step(self, closure: Closure, weights: Weights) -> tuple[Tensor, StepReport]:
        measured = self.damping.adapt and self.steps % self.ratio_interval == 0
        free = self.momentum is None or self.step_size is None
        model = LocalModel(closure, weights, taped=measured or free)
        operator = self._operator or self._begin(closure.objective.narrowed(weights.moved))
        g, data = self._seen(operator, model)
        direction, damping = self._direction(operator, weights, model.loss, g, data)
        del data  # with it goes the graph, as soon as the model has let go of it
        last = self._last(weights)
        if free:
            pushed = [model.push(v) for v in ([direction] if last is None else [direction, last])]
            curvature, metric, slope = model.gram(pushed)
            if not (np.isfinite(curvature).all() and np.isfinite(slope).all()):
                raise Rejection("the gradient or the curvature is not finite", model.loss)
            c = self._coefficients(curvature + damping * metric, slope)
            loss = closure.objective.loss
            if loss is not None and loss.nonnegative:
                c = share_within(curvature, slope, c, float(model.loss) + weights.decay_loss()) * c
            if last is not None and weights.uniform:
                eta = weights.lr[0]
                self.damping.compare(eta * float(slope[1]), eta**2 * float(curvature[1, 1]))
        else:
            c = np.array([self.step_size, float(self.param_groups[0]["momentum"])][: 1 if last is None else 2])
        step = list(torch._foreach_mul(direction, float(c[0])))
        if last is not None:
            torch._foreach_add_(step, last, alpha=float(c[1]))
        moved = [eta * s for eta, s in zip(weights.lr, step, strict=True)]
        predicted = self._predicted(model, moved) if measured else None
        model.release()
        actual = self._move(closure, weights, moved, model.loss, measured)
        if predicted is not None and actual is not None:
            self.damping.learn(actual / predicted if predicted > 0 else -math.inf)
        for w, s in zip(weights.tensors, step, strict=True):
            self.state[w]["step"] = s
        self.steps += 1
        report = StepReport(
            float(model.loss), damping, float(c[1]) if len(c) > 1 else 0.0, float(c[0]), predicted, actual,
            model.products + measured,
        )  # fmt: skip
        return model.loss, report

    def _seen(self, operator: Factored, model: LocalModel) -> tuple[Tensor, list[Batch] | Forward | None]:
        """g, and what the factors are to take in: of a single batch the pass that g took."""
        batches = model.closure.batches
        due = self.steps % self.factor_interval == 0
        shared = due and len(batches) == 1
        with operator.recorded() if shared else nullcontext([]) as calls:
            g, _ = model.start(None, retain=shared)
        if not bool(torch.isfinite(model.loss)):
            raise Rejection("the loss is not finite", model.loss)
        flat = operator.space.flatten(g)
        if model.linearization is None or not shared:
            return flat, list(batches) if due else None
        return flat, Forward(model.linearization.narrowed(model.weights.moved), calls)

    def _direction(
        self, operator: Factored, weights: Weights, loss: Tensor, g: Tensor, data: list[Batch] | Forward | None
    ) -> tuple[Vector, float]:
        """−P⁻¹ g and the λ in it."""
        if not math.isfinite(inner(g, g)):
            raise Rejection("the gradient is not finite", loss)
        if data is not None:
            share = 1 / (1 + self.steps // self.factor_interval)
            decay = min(self.decay, 1 - share)
            self._update(operator, data, decay)
            batches = data if isinstance(data, list) else [data.linearization.batch]
            self.damping.sample(sum(batch.examples for batch in batches), decay)
        if self._inverse is None or self._refreshes():
            mean = trace(operator).estimate / operator.shape[0]
            if mean > 0:
                self.damping.see(mean)
                self.damping.side = operator.side
            damping = self.damping.value + sum(weights.weight_decay) / len(weights.weight_decay)
            try:
                self._inverse = self._inverted(
                    BlockDiagonal(operator.blocks, operator.space, operator.partition), damping
                )
            except ConvergenceError as found:
                raise Rejection(f"the factors have no inverse ({found})", loss) from found
        return operator.space.unflatten(-(self._inverse @ g)), self.damping.value

    def _begin(self, objective: Objective) -> Factored:
        """The operator, and what a loaded state has for it."""
        operator = self._operator = self._factored(objective)
        if self._loaded:
            operator.load_state(self._loaded["operator"])
        if self._loaded.get("inverse") is not None:
            spaces = [block.space for block in operator.blocks]
            parts = zip(self._loaded["inverse"], spaces, strict=True)
            blocks = [_from_matrices(tuple(m.to(operator.device) for m in made), space) for made, space in parts]
            self._inverse = BlockDiagonal(blocks, operator.space, operator.partition)
        return operator

    def _refreshes(self) -> bool:
        """Whether P⁻¹ is to be made anew at this step."""
        return self.steps < 3 or self.steps % self.inverse_interval == 0

    # ---- what EKFAC does otherwise

    def _factored(self, objective: Objective) -> Factored:
        return Factored(objective, fisher=self.fisher, sharing=self.sharing)

    def _update(self, operator: Factored, data: list[Batch] | Forward, decay: float) -> None:
        operator.update(data, decay)

    def _inverted(self, operator: BlockDiagonal, damping: float) -> BlockDiagonal:
        return operator.map(lambda block: _explicit(inverse(factored_damping(block, damping))))

    def _coefficients(self, a: Any, b: Any) -> Any:
        """(α, μ): the minimiser of the damped model; what is given is kept."""
        if len(b) == 1:
            return np.array([self.step_size]) if self.step_size is not None else minimiser(a, b)
        if self.momentum is not None:
            mu = float(self.param_groups[0]["momentum"])
            return np.array([float(minimiser(a[:1, :1], b[:1] + mu * a[:1, 1])[0]), mu])
        if self.step_size is not None:
            return np.array([self.step_size, float(minimiser(a[1:, 1:], b[1:] + self.step_size * a[1:, 0])[0])])
        return minimiser(a, b)

    def _predicted(self, model: LocalModel, moved: Vector) -> float:
        """−M(ηs) of the undamped model."""
        curvature, _, slope = model.gram([model.push(moved)])
        return -change(curvature, slope, np.ones(1))

    def _move(self, closure: Closure, weights: Weights, moved: Vector, loss: Tensor, measured: bool) -> float | None:
        if not measured:
            with torch.no_grad():
                torch._foreach_add_(weights.tensors, moved)
            return None
        start = float(loss) + weights.decay_loss()
        trial = Trial(closure, weights)
        value = trial.value(moved)
        if not math.isfinite(value):
            trial.back()
            raise Rejection("the loss after the step is not finite", loss)
        trial.keep()
        return start - value

    def _last(self, weights: Weights) -> Vector | None:
        if not all("step" in self.state[w] for w in weights.tensors):
            return None
        return [self.state[w]["step"] for w in weights.tensors]

    def _raise_damping(self) -> None:
        self.damping.increase()
        self._inverse, self._loaded = None, {**self._loaded, "inverse": None} if self._loaded else {}

    @property
    def _damping_state(self) -> dict[str, Any]:
        return dict(vars(self.damping))

    @_damping_state.setter
    def _damping_state(self, state: dict[str, Any]) -> None:
        vars(self.damping).update(state)

    @property
    def _curvature_state(self) -> dict[str, Any]:
        """The factors and, matrix by matrix, the inverse in use."""
        if self._operator is None:
            return self._loaded
        inverse = None if self._inverse is None else [_matrices(b) for b in self._inverse.blocks]
        return {"operator": self._operator.state(), "inverse": inverse}

    @_curvature_state.setter
    def _curvature_state(self, state: dict[str, Any]) -> None:
        self._loaded, self._operator, self._inverse = dict(state), None, None


def _explicit(block: LinearOperator) -> LinearOperator:
    """The inverse as matrices: a product with one is faster than solving with its factorisation."""
    return _from_matrices(_matrices(block), block.space)


def _matrices(block: LinearOperator) -> tuple[Tensor, ...]:
    """What a block is made of: the factors of a Kronecker product, a diagonal [n] or a matrix [n, n]."""
    if isinstance(block, EigenKronecker):
        return block.left, block.right, block.values
    if isinstance(block, Kronecker):
        return *_matrices(block.left), *_matrices(block.right)
    return (block.values,) if isinstance(block, Diagonal) else (block.to_dense(block.shape[0]),)


def _from_matrices(parts: tuple[Tensor, ...], space: Space) -> LinearOperator:
    """The block again."""
    if len(parts) == 3:
        return EigenKronecker(*parts, space)
    if len(parts) == 1:
        return _matrix(parts[0], space)
    return Kronecker(_matrix(parts[0]), _matrix(parts[1]), space)


def _matrix(part: Tensor, space: Space | None = None) -> LinearOperator:
    return Diagonal(part, space) if part.dim() == 1 else Dense(part, space, symmetric=True)
