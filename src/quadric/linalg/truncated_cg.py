"""Conjugate gradients on a quadratic model, stopped when it stops paying: the inner loop of Hessian-free methods."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass

import torch
from torch import Tensor

from quadric.linalg.shifted import check_damping
from quadric.linalg.solution import check_system
from quadric.operators.operator import LinearOperator

SPACING = 1.3
"""Iterates are kept at iterations ⌈1.3ʲ⌉."""


@dataclass(frozen=True)
class Truncated:
    """x near the minimum of φ(x) = ½ xᵀ(A + λI)x − bᵀx, and how the iteration came there.

    `model` is φ(x). `earlier` are a few of the iterates before x, the latest first. `negative_curvature` is the
    direction of zero or negative curvature that ended the iteration, along which φ falls from x on: as long as the step
    that its curvature would have given with the other sign. `reason` says in words why the iteration ended.
    """

    solution: Tensor
    model: float
    iterations: int
    products: int
    reason: str
    earlier: tuple[Tensor, ...] = ()
    negative_curvature: Tensor | None = None


def truncated_cg(
    operator: LinearOperator,
    b: Tensor,
    *,
    damping: float = 0.0,
    start: Tensor | None = None,
    preconditioner: LinearOperator | None = None,
    max_iterations: int = 250,
    progress: float = 5e-4,
    keep: int = 5,
) -> Truncated:
    """Lower φ(x) = ½ xᵀ(A + λI)x − bᵀx, b [n], by conjugate gradients for as long as each iteration is worth it.

    After i iterations it ends where the last k = max(10, ⌈i/10⌉) of them brought less than k · `progress` of φ, or at
    the first direction of zero or negative curvature, at the rounding error of φ, or at `max_iterations`. A `start` is
    used if it is a direction of descent with φ < 0 = φ(0); the iteration begins at zero otherwise. `preconditioner` is
    a positive definite operator P ≈ (A + λI)⁻¹. Up to `keep` iterates before the last are kept.

    Cost: one product and 12 n operations an iteration, one product for a start; (5 + `keep`) n numbers. Raises
    ValueError where A is not known to be symmetric, b does not fit, or a product is not finite.
    Reference: Martens (2010), Deep learning via Hessian-free optimization, sections 4.4 to 4.6.
    """
    check_system(operator, b, 0.5, symmetric="CG")
    operator.domain.check(b, dims=(1,))
    check_damping(damping)
    if not (isinstance(max_iterations, int) and max_iterations >= 1):
        raise ValueError(f"Expected max_iterations to be an integer ≥ 1, got {max_iterations!r}.")
    if not (progress >= 0 and math.isfinite(progress)):
        raise ValueError(f"Expected progress to be a finite number ≥ 0, got {progress!r}.")
    run = _Run(operator, b, damping, preconditioner, keep)
    if start is not None:
        run.begin_at(start)
    run.direct()
    while not run.reason:
        if run.iterations == max_iterations:
            run.reason = "the iteration limit was reached"
        else:
            run.step(progress)
    return Truncated(
        run.x, run.values[-1], run.iterations, run.products, run.reason, tuple(reversed(run.kept)), run.negative
    )


class _Run:
    """x, the residual r = b − (A + λI)x, the direction p, and φ after each iteration. Names as in Saad (2003), 9.1."""

    def __init__(
        self,
        operator: LinearOperator,
        b: Tensor,
        damping: float,
        preconditioner: LinearOperator | None,
        keep: int,
    ) -> None:
        self.operator, self.b, self.damping, self.preconditioner = operator, b, damping, preconditioner
        self.x, self.r = torch.zeros_like(b), b.clone()
        self.values = [0.0]
        self.iterations = self.products = 0
        self.kept: deque[Tensor] = deque(maxlen=keep)
        self.mark = 1
        self.norm = 0.0
        self.reason = ""
        self.negative: Tensor | None = None

    def image(self, x: Tensor) -> Tensor:
        """(A + λI) x."""
        self.products += 1
        product = self.operator @ x
        return torch.add(product, x, alpha=self.damping) if self.damping else product

    def begin_at(self, start: Tensor) -> None:
        """x = start, where φ is lower than at zero and b points the same way."""
        self.operator.domain.check(start, dims=(1,))
        r = self.b - self.image(start)
        value = -0.5 * float(torch.sum(start * (self.b + r), dtype=torch.float64))
        if value < 0 and float(torch.dot(self.b, start)) > 0:
            self.x, self.r, self.values = start.clone(), r, [value]

    def direct(self) -> None:
        """The first direction."""
        self.p = self._preconditioned().clone()
        self.rz = self.first = float(torch.dot(self.r, self.p))
        self.square = float(torch.dot(self.p, self.p))
        if not math.isfinite(self.rz):
            raise ValueError("A product of the operator or the preconditioner is not finite: there is no system.")
        if self.rz < 0:
            raise ValueError("Expected a positive definite preconditioner P, got one with rᵀP r < 0.")
        if self.rz == 0:
            self.reason = "the system is solved"

    def _preconditioned(self) -> Tensor:
        return self.r if self.preconditioner is None else self.preconditioner @ self.r

    def step(self, progress: float) -> None:
        """One iteration."""
        ap = self.image(self.p)
        curvature, square = float(torch.dot(self.p, ap)), self.square
        if not math.isfinite(curvature):
            raise ValueError("A product of the operator is not finite: there is no system to solve.")
        eps = torch.finfo(ap.dtype).eps
        if curvature <= eps * self.norm * square:
            # without a scale of the curvature from before or from here, the direction is taken as it is
            size = max(abs(curvature), 1e-3 * self.norm * square) or self.rz
            self.negative = self.p * (self.rz / size)
            self.reason = "a direction of zero or negative curvature was met"
            return
        if self.iterations == self.mark:
            self.kept.append(self.x.clone())
            self.mark = max(self.mark + 1, math.ceil(SPACING * self.mark))
        self.norm = max(self.norm, curvature / square)
        alpha = self.rz / curvature
        self.x.add_(self.p, alpha=alpha)
        self.r.sub_(ap, alpha=alpha)
        self.values.append(self.values[-1] - 0.5 * alpha * self.rz)
        self.iterations += 1
        z = self._preconditioned()
        rz = float(torch.dot(self.r, z))
        beta = rz / self.rz
        torch.add(z, self.p, alpha=beta, out=self.p)
        plain = self.preconditioner is None  # then r is orthogonal to the last p
        self.square = rz + beta * beta * square if plain else float(torch.dot(self.p, self.p))
        self.rz = rz
        self._judge(progress, eps)

    def _judge(self, progress: float, eps: float) -> None:
        """End where φ hardly falls any more: of the last k iterations, or as far as rounding lets it."""
        if not self.rz > eps * eps * self.first:
            self.reason = "the system is solved to rounding errors"
            return
        i, window = self.iterations, max(10, math.ceil(0.1 * self.iterations))
        fall = self.values[i - window] - self.values[i] if i > window else math.inf
        if fall < window * progress * abs(self.values[i]):
            self.reason = "progress had become small"
