"""Saddle-free Newton: steps with the absolute value of the Hessian, in a Krylov subspace."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor

from quadric.linalg import Tridiagonal, lanczos
from quadric.linalg.probes import gaussian, seeded
from quadric.objective.closure import Closure
from quadric.objective.objective import Objective
from quadric.operators import LinearOperator
from quadric.optim.damped import DampedOptimizer
from quadric.optim.operator_model import OperatorModel
from quadric.optim.optimizer import Rejection, StepReport, Weights
from quadric.optim.trial import Trial

ATTEMPTS = 12
"""Steps tried, each with more damping than the one before, until the loss falls."""

KICK = 1e-3
"""Share of the loss by which the step off a stationary point is to lower it, by its model."""


class SaddleFreeNewton(DampedOptimizer):
    """w ← w − η Q (M + λI)⁻¹ Qᵀg, M = (QᵀH²Q)^½: Newton's step with |H| = (H²)^½ in place of the Hessian H.

    The columns of Q are an orthonormal basis of the Krylov space of H from g, m of them, so that nothing of g lies
    outside and no scale for the rest of the space has to be invented. With H Q = Q T + β q eᵀ of the Lanczos process,
    QᵀH²Q = T² + β² e eᵀ costs no product. M is never below the compression Qᵀ|H|Q, as the square root is operator
    concave, and equals it where the space is invariant; |T|, the other candidate, is below it, and where a Ritz value
    passes through zero between eigenvalues of both signs, |T|⁻¹ takes a step without bound.

    Where the gradient is zero and H has negative eigenvalues, the step goes along the most negative curvature that m
    steps of Lanczos find, as far as the model needs to lower the loss by a thousandth of it (or by
    a thousandth of the curvature, where that is more).

    Args:
        params: an `Objective`, or parameters or group dicts as torch takes them; groups may set `lr`, `weight_decay`.
        lr: η, a multiplier of the step that schedulers drive.
        damping: λ. None is a share of the curvature along the gradient (`RelativeDamping`); a number is the first λ.
        weight_decay: ω, part of the model: g + ωw and H + ωI.
        subspace: m; the whole space, and so |H| itself, for networks of no more parameters.
        adapt: λ follows the ratio of the actual to the predicted reduction, as in `Newton`, and a step that raises the
            loss is tried again with more damping, on the same batch. With `adapt=False` λ stays.

    Cost of a step: a gradient and m products with H, with `adapt` three more and a forward pass for each evaluation;
    m n numbers. Raises ValueError for settings out of range. Reference: Dauphin, Pascanu, Gulcehre, Cho, Ganguli and
    Bengio (2014), Identifying and attacking the saddle point problem in high-dimensional non-convex optimization.
    """

    def __init__(
        self,
        params: Objective | Iterable[Any],
        lr: float = 1.0,
        damping: float | None = None,
        weight_decay: float = 0.0,
        *,
        subspace: int = 20,
        adapt: bool = True,
    ) -> None:
        if not (isinstance(subspace, int) and subspace >= 1):
            raise ValueError(f"Expected subspace to be an integer ≥ 1, got {subspace!r}.")
        super().__init__(params, lr, damping, weight_decay, adapt)
        self.subspace = subspace

    def _advance(self, closure: Closure, weights: Weights) -> tuple[Tensor, StepReport]:
        model = OperatorModel.of(closure, weights)
        operator = model.decayed(model.curvature("hessian"))
        if self.adapt:
            self._look(model, operator)
        start = float(model.loss) + weights.decay_loss()
        rounding = model.rounding
        trial = Trial(closure, weights)
        predicted = actual = None
        for direction in self._directions(model, operator, start):
            step = model.scaled(direction)
            damping = self.damping.value
            if not self.adapt:
                trial.move(model.objective.space.unflatten(step))
                break
            predicted = -model.change(operator, step)
            actual = start - trial.value(model.objective.space.unflatten(step))
            if actual >= -rounding:
                if abs(predicted) > rounding:
                    self.damping.learn(actual / predicted)
                break
            trial.back()
            self.damping.increase()
        else:
            raise Rejection(f"the loss rises even with damping {damping:.3g}", model.loss)
        trial.keep()
        self._stepped(model, step)
        report = StepReport(
            float(model.loss), damping, step_size=weights.lr[0], predicted_reduction=predicted, actual_reduction=actual
        )
        return model.loss, report

    def _directions(self, model: OperatorModel, operator: LinearOperator, loss: float) -> Iterator[Tensor]:
        """−Q (M + λI)⁻¹ Qᵀg, with λ as it is when asked for; off a stationary point both ways, each time shorter."""
        g = model.gradient
        norm = float(g.norm())
        if norm == 0:
            yield from self._off_stationary(operator, loss)
            return
        krylov = self._krylov(model, operator, g)
        last = torch.zeros_like(krylov.diagonal)
        last[-1] = krylov.remainder
        tridiagonal = krylov.matrix()
        squares, vectors = torch.linalg.eigh(tridiagonal @ tridiagonal + torch.diag(last.square()))
        sizes = squares.clamp_min(0.0).sqrt()
        for _ in range(ATTEMPTS):
            damped = sizes + self.damping.value
            if float(damped.min()) <= torch.finfo(torch.float64).eps * float(damped.max()):
                raise Rejection("the Hessian is singular in the Krylov space: give damping > 0", model.loss)
            coefficients = vectors @ (vectors[0] / damped) * norm
            yield -(krylov.basis @ coefficients.to(g.dtype))

    def _off_stationary(self, operator: LinearOperator, loss: float) -> Iterator[Tensor]:
        """±t v along the most negative curvature θ, with ½|θ|t² a share of the loss; nothing where there is none."""
        space = operator.space
        krylov = lanczos(operator, gaussian(space, 1, seeded(self.steps)).squeeze(1), self.subspace)
        values, vectors = krylov.eigh()
        theta = float(values[0])
        if not theta < -float(krylov.residuals(vectors)[0]):
            yield torch.zeros(space.numel, dtype=space.dtype, device=space.device)
            return
        v = krylov.basis @ vectors[:, 0].to(space.dtype)
        for attempt in range(ATTEMPTS):
            yield v * (math.sqrt(2 * KICK * max(abs(loss) / -theta, 1.0)) / 4 ** (attempt // 2) * (-1) ** attempt)

    def _krylov(self, model: OperatorModel, operator: LinearOperator, start: Tensor) -> Tridiagonal:
        krylov = lanczos(operator, start, self.subspace)
        if not math.isfinite(krylov.remainder):
            raise Rejection("the curvature is not finite", model.loss)
        return krylov
