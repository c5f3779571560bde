"""CurveBall: a second-order method with the memory of momentum SGD."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from quadric.objective.closure import Closure
from quadric.objective.objective import Objective
from quadric.optim.damping import Damping, ModelDamping, RatioDamping, largest_eigenvalue
from quadric.optim.model import Direction, LocalModel, Vector
from quadric.optim.optimizer import CurvatureOptimizer, Rejection, StepReport, Weights
from quadric.optim.subspace import Local, Matrix, change, minimiser, share_within


class CurveBall(CurvatureOptimizer):
    """CurveBall (Henriques, Ehrhardt, Albanie, Vedaldi, 2019): momentum along the Newton direction of the GGN.

    With G the Gauss–Newton matrix of the batch, g its gradient, ω the weight decay and C = G + ωI:

        Δz = (C + λI) z + g + ωw,    z ← ρ z − β Δz,    w ← w + η z

    (β, −ρ) minimise the quadratic model in the span of Δz and z (section 3.1 of the paper). Works untuned.

    Args:
        params: an `Objective`, or parameters or group dicts as torch takes them; groups may set `lr`, `weight_decay`.
        lr: η, a multiplier of the step that schedulers drive. The model predicts the step actually taken.
        damping: λ. None chooses it from the scale of the problem and the model's success (`ModelDamping`); a number is
            the first λ of the paper's rule (`RatioDamping`).
        momentum: ρ; None solves for it at each step.
        step_size: β; None solves for it at each step.
        weight_decay: ω, part of the quadratic model.
        adapt_damping: False keeps a given `damping` as it is.
        curvature: "ggn", or None for no curvature: then Δz = g + ωw + λz, which with λ = 0 is heavy-ball momentum.
        curvature_fraction: share of each micro-batch's examples that G is taken on; the gradient is the whole batch's.
            Cheapest where examples do not meet in the model (no BatchNorm in train mode) and nothing is random.
        curvature_interval: the curvature passes are taken every so many steps. The steps between are heavy-ball,
            z ← ρ z − β (g + ωw), with the last ρ and β, at most 0.9 and the inverse of the largest curvature seen then.
        keep_gradient: leave the plain gradient in `.grad`, at the price of one more reverse pass.

    State: one buffer z per parameter. Cost: 7/3 of a gradient in matrix products (5/3 with ρ and β given), plus what
    the damping rule measures. Raises ValueError for settings out of range.
    """

    _scalars = ("steps", "_separable", "_rho", "_beta", "_lambda", "_stable", "_damping_state")

    def __init__(
        self,
        params: Objective | Iterable[Any],
        lr: float = 1.0,
        damping: float | None = None,
        momentum: float | None = None,
        step_size: float | None = None,
        weight_decay: float = 0.0,
        adapt_damping: bool = True,
        *,
        curvature: Literal["ggn"] | None = "ggn",
        curvature_fraction: float = 1.0,
        curvature_interval: int = 1,
        keep_gradient: bool = False,
    ) -> None:
        _check(damping, momentum, step_size, curvature, curvature_fraction, curvature_interval)
        super().__init__(params, {"lr": lr, "weight_decay": weight_decay, "momentum": momentum})
        if curvature is None and damping is None:
            damping, adapt_damping = 0.0, False
        self.damping: Damping = (
            ModelDamping() if damping is None else RatioDamping(float(damping), adapt_damping and curvature is not None)
        )
        self.momentum = momentum
        self.step_size = step_size
        self.curvature_fraction = curvature_fraction if curvature is not None else 0.0
        self.curvature_interval = curvature_interval
        self.keep_gradient = keep_gradient
        self.steps = 0
        self._separable: bool | None = None
        self._rho = 0.0
        self._beta = 0.0
        self._lambda = 0.0
        self._stable = 0.0

    # ---- one step

    def _advance(self, closure: Closure, weights: Weights) -> tuple[Tensor, StepReport]:
        z = self._buffers(weights)
        if self.steps % self.curvature_interval:
            return self._coast(closure, weights, z)
        wants_ratio = self.damping.wants_ratio(self.steps)
        wants_residual = self.damping.wants_residual(self.steps) and self.curvature_fraction == 1.0
        solves = self._solves()
        model = LocalModel(closure, weights, self.curvature_fraction, split=self._splits(closure))
        temper = self.damping.temper if self.curvature_fraction == 1 else None
        u, along_z = model.start(z, temper=temper, retain=wants_residual or self.keep_gradient)
        if not math.isfinite(model.loss):
            raise Rejection("the loss is not finite", model.loss)
        directions: list[Direction] = []
        local: Local | None = None
        if solves or wants_ratio:
            directions = [model.push(u), *([] if along_z is None else [along_z])]
            local = model.gram(directions)
            if not all(np.isfinite(part).all() for part in local):
                raise Rejection("the gradient or the curvature is not finite", model.loss)
        residual = _unexplained(model, directions, local) if wants_residual and local is not None else None
        given = self.momentum is not None and self.step_size is not None
        if solves or given:
            self._lambda = self.damping.choose(local, residual, weights.lr[0] if weights.uniform else 0.0)
        damping = self._lambda
        rho, beta = self._coefficients(local, damping) if solves and local is not None else (self._rho, self._beta)
        if local is not None:
            self._stable = 1 / max(largest_eigenvalue(local[0], local[1]) + damping, 1e-300)
        if local is not None and self.damping.bounded:
            rho, beta = self._bounded(closure, weights, model, local, damping, rho, beta)
        coefficients = np.array([-beta, rho - beta * damping][: 1 if z is None else 2])
        if not np.isfinite(coefficients).all():
            raise Rejection("the quadratic model has no finite minimiser", model.loss)
        if local is None and not all(map(math.isfinite, torch.stack(torch._foreach_norm(u)).tolist())):
            raise Rejection("the gradient is not finite", model.loss)
        moved = _combined(u, z, coefficients, in_place=not wants_ratio)
        if self.keep_gradient:
            self._leave_gradient(model, weights)
        predicted = actual = None
        if wants_ratio and local is not None:
            shift = damping if self.damping.damped_prediction else 0.0
            predicted = -_predicted_change(model, weights, local, coefficients, moved, shift)
        model.release()
        actual = _move(closure, weights, moved, model.loss, measure=wants_ratio)
        if actual is not None and predicted is not None:
            self.damping.learn(actual / predicted if predicted != 0 else math.nan if actual else 1.0)
        for w, v in zip(weights.tensors, moved, strict=True):
            self.state[w]["z"] = v
        self.steps += 1
        self._rho, self._beta = rho, beta
        products = model.products + wants_ratio
        return model.loss, StepReport(float(model.loss), damping, rho, beta, predicted, actual, products)

    def _coast(self, closure: Closure, weights: Weights, z: Vector | None) -> tuple[Tensor, StepReport]:
        """A step without curvature, z ← ρ z − β (g + ωw): the last ρ and β, kept to what is stable without it."""
        model = LocalModel(closure, weights, 0.0)
        u, _ = model.start(None)
        norms = torch.stack(torch._foreach_norm(u)).tolist()
        if not all(map(math.isfinite, [float(model.loss), *norms])):
            raise Rejection("the loss or the gradient is not finite", model.loss)
        rho, beta = min(max(self._rho, 0.0), 0.9), min(max(self._beta, 0.0), self._stable)
        moved = _combined(u, z, np.array([-beta, rho]), in_place=True)
        _move(closure, weights, moved, model.loss, measure=False)
        for w, v in zip(weights.tensors, moved, strict=True):
            self.state[w]["z"] = v
        self.steps += 1
        return model.loss, StepReport(float(model.loss), None, rho, beta)

    def _splits(self, closure: Closure) -> bool:
        """Whether the share that G is taken on can be a part of the gradient's pass; found out at the first step."""
        if not 0 < self.curvature_fraction < 1 or len(closure.batches) != 1:
            return False
        if self._separable is None:
            self._separable = closure.separable(self.curvature_fraction)
        return self._separable and closure.batches[0].examples > 1

    def _solves(self) -> bool:
        """Whether ρ or β is to be solved for at this step."""
        given = self.momentum is not None and self.step_size is not None
        if given:
            self._rho, self._beta = float(self.param_groups[0]["momentum"]), float(self.step_size or 0.0)
        return not given

    def _coefficients(self, local: Local, damping: float) -> tuple[float, float]:
        """ρ and β: the minimiser of the damped model over ρ z − β Δz, those that are given kept as they are."""
        curvature, metric, slope = local
        a = curvature + damping * metric
        if len(slope) == 1:
            beta = self.step_size if self.step_size is not None else -float(minimiser(a, slope)[0])
            return (0.0 if self.momentum is None else float(self.param_groups[0]["momentum"])), beta
        a, b = _over_delta(a, slope, damping)
        if self.momentum is not None:
            rho = float(self.param_groups[0]["momentum"])
            return rho, -float(minimiser(a[:1, :1], b[:1] + rho * a[:1, 1])[0])
        if self.step_size is not None:
            return float(minimiser(a[1:, 1:], b[1:] - self.step_size * a[1:, 0])[0]), self.step_size
        c = minimiser(a, b)
        return float(c[1]), -float(c[0])

    def _bounded(
        self,
        closure: Closure,
        weights: Weights,
        model: LocalModel,
        local: Local,
        damping: float,
        rho: float,
        beta: float,
    ) -> tuple[float, float]:
        """ρ and β scaled down where the model promises that a loss that is never negative falls by more than itself."""
        loss = closure.objective.loss
        if loss is None or not loss.nonnegative:
            return rho, beta
        c = np.array([-beta, rho - beta * damping][: len(local[2])])
        share = share_within(local[0], local[2], c, float(model.loss) + weights.decay_loss())
        return share * rho, share * beta

    def _buffers(self, weights: Weights) -> Vector | None:
        """z of the moved tensors; None while it is zero everywhere."""
        if not any("z" in self.state[w] for w in weights.tensors):
            return None
        return [self.state[w]["z"] if "z" in self.state[w] else torch.zeros_like(w) for w in weights.tensors]

    def _leave_gradient(self, model: LocalModel, weights: Weights) -> None:
        for w, g in zip(weights.tensors, model.plain_gradient(), strict=True):
            w.grad = g

    def _raise_damping(self) -> None:
        self.damping.increase()

    @property
    def _damping_state(self) -> dict[str, Any]:
        return dict(vars(self.damping))

    @_damping_state.setter
    def _damping_state(self, state: dict[str, Any]) -> None:
        if set(state) != set(vars(self.damping)):
            raise ValueError(
                f"Expected the state of a {type(self.damping).__name__} (with {sorted(vars(self.damping))}), got one "
                f"with {sorted(state)}: give this CurveBall the damping= that the saved one had."
            )
        vars(self.damping).update(state)


def _over_delta(a: Matrix, b: Matrix, damping: float) -> tuple[Matrix, Matrix]:
    """A model over u and z as one over Δz = u + λz and z."""
    corner = a[0, 1] + damping * a[1, 1]
    first = a[0, 0] + damping * (a[0, 1] + corner)
    return np.array([[first, corner], [corner, a[1, 1]]]), np.array([b[0] + damping * b[1], b[1]])


def _combined(u: Vector, z: Vector | None, coefficients: Matrix, *, in_place: bool) -> Vector:
    """c₀ u + c₁ z; in the memory of z where the step can no longer be refused."""
    if z is None:
        return list(torch._foreach_mul(u, float(coefficients[0])))
    if in_place:
        torch._foreach_mul_(z, float(coefficients[1]))
    else:
        z = list(torch._foreach_mul(z, float(coefficients[1])))
    torch._foreach_add_(z, u, alpha=float(coefficients[0]))
    return z


def _unexplained(model: LocalModel, directions: list[Direction], local: Local) -> float:
    """‖g + C y‖ / ‖g‖ at the undamped minimiser y of the model in the span."""
    y = minimiser(local[0], local[2])
    left = torch.stack(torch._foreach_norm(model.pull(directions, y))).double().norm()
    gradient = model.gradient if model.gradient is not None else model.pull([], [])
    whole = torch.stack(torch._foreach_norm(gradient)).double().norm()
    return float(left / whole) if float(whole) > 0 else 1.0


def _predicted_change(
    model: LocalModel, weights: Weights, local: Local, c: Matrix, moved: Vector, damping: float
) -> float:
    """M(s) = gᵀs + ½ sᵀ(C + λI)s for the step s = η z, η per group."""
    curvature, metric, slope = local
    if weights.uniform:
        return change(curvature + damping * metric, slope, weights.lr[0] * c)
    step = [lr * v for lr, v in zip(weights.lr, moved, strict=True)]
    curvature, metric, slope = model.gram([model.push(step)])
    return change(curvature + damping * metric, slope, np.ones(1))


def _move(closure: Closure, weights: Weights, moved: Vector, loss: Tensor, *, measure: bool) -> float | None:
    """w ← w + η z; with `measure`, the actual reduction, weight decay included; Rejection if it is not finite."""
    before = [w.detach().clone() for w in weights.tensors] if measure else []
    penalty = weights.decay_loss() if measure else 0.0
    with torch.no_grad():
        if weights.uniform:
            torch._foreach_add_(weights.tensors, moved, alpha=weights.lr[0])
        else:
            for w, v, lr in zip(weights.tensors, moved, weights.lr, strict=True):
                w.add_(v, alpha=lr)
        if not measure:
            return None
        try:
            after = closure.value()
            if not math.isfinite(after):
                raise Rejection("the loss after the step is not finite", loss)
        except BaseException:
            torch._foreach_copy_(weights.tensors, before)
            raise
    return float(loss) + penalty - float(after) - weights.decay_loss()


def _check(
    damping: float | None,
    momentum: float | None,
    step_size: float | None,
    curvature: str | None,
    fraction: float,
    interval: int,
) -> None:
    for name, value in (("damping", damping), ("momentum", momentum), ("step_size", step_size)):
        if value is not None and not (math.isfinite(value) and value >= 0):
            raise ValueError(f"Expected {name} to be None (automatic) or a finite number ≥ 0, got {value!r}.")
    if curvature not in ("ggn", None):
        raise ValueError(f'Expected curvature "ggn" or None, got {curvature!r}.')
    if curvature is None and not damping and (momentum is None or step_size is None):
        raise ValueError("Without curvature and damping nothing determines the step: give momentum and step_size.")
    if not 0 < fraction <= 1:
        raise ValueError(f"Expected curvature_fraction in (0, 1], got {fraction!r}.")
    if not (isinstance(interval, int) and interval >= 1):
        raise ValueError(f"Expected curvature_interval to be an integer ≥ 1, got {interval!r}.")
