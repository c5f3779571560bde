"""The method of conjugate gradients, with or without a preconditioner."""

from __future__ import annotations

import torch
from torch import Tensor

from quadric.linalg.solution import Solution, check_system, joined
from quadric.operators.operator import LinearOperator

MET = "the tolerance was met"
ROUNDED = "the residual is at the rounding error of a product"
STALLED = "rounding errors stopped it: use float64, more damping or a preconditioner"
INDEFINITE = "a direction of zero or negative curvature was met"


def cg(
    operator: LinearOperator,
    b: Tensor,
    *,
    tol: float = 1e-6,
    start: Tensor | None = None,
    preconditioner: LinearOperator | None = None,
    max_iterations: int | None = None,
) -> Solution:
    """Solve A x = b for a symmetric positive definite A to ‖b − A x‖ ≤ tol ‖b‖, for b [n] or several columns [n, k].

    The residual is checked by a product at the end, and refined where recursion and truth have drifted apart; one that
    is as small as rounding errors of products in A's dtype let it be counts as converged. The first direction
    of non-positive curvature ends a column and is returned. `preconditioner` is a positive definite operator P ≈ A⁻¹.
    At most `max_iterations` (default 10 n, at least 100); what did not converge gives a NotConverged warning.

    Cost: one product and 10 n k operations an iteration, 5 n k numbers. Raises ValueError where A is not known to be
    symmetric, or b does not fit. Reference: Hestenes and Stiefel (1952).
    """
    arguments = tol, start, preconditioner, max_iterations
    return conjugate_gradients(operator, b, *arguments).warn("CG")


def conjugate_gradients(
    operator: LinearOperator,
    b: Tensor,
    tol: float = 1e-6,
    start: Tensor | None = None,
    preconditioner: LinearOperator | None = None,
    max_iterations: int | None = None,
) -> Solution:
    """`cg` without the warning: for callers that judge the result themselves."""
    check_system(operator, b, tol, symmetric="CG")
    if preconditioner is not None and not preconditioner.domain.same_as(operator.domain):
        raise ValueError(f"Expected a preconditioner of shape {operator.shape}, got {preconditioner.shape}.")
    limit = max(100, 10 * operator.shape[0]) if max_iterations is None else max_iterations
    run = _Run(operator, b if b.dim() == 2 else b.unsqueeze(1), tol, preconditioner, start)
    while run.open.numel() and run.iterations < limit:
        run.step()
    return run.result(vector=b.dim() == 1)


class _Run:
    """Conjugate gradients on all columns that are still open. Names as in Saad (2003), algorithm 9.1."""

    def __init__(
        self,
        operator: LinearOperator,
        b: Tensor,
        tol: float,
        preconditioner: LinearOperator | None,
        start: Tensor | None,
    ) -> None:
        self.operator, self.b, self.tol, self.preconditioner = operator, b, tol, preconditioner
        self.norm_b = norms(b)
        self.x = torch.zeros_like(b) if start is None else start.reshape(b.shape).clone()
        self.products = 0 if start is None else b.shape[1]
        self.r = b.clone() if start is None else b - operator @ self.x
        self.iterations = 0
        self.norm_a = torch.zeros_like(self.norm_b)
        self.before = torch.full_like(self.norm_b, float("inf"))
        self.residuals = torch.where(self.norm_b > 0, norms(self.r) / self.norm_b, 0.0)
        self.reasons = ["the iteration limit was reached"] * b.shape[1]
        self.converged = [False] * b.shape[1]
        self.negative: Tensor | None = None
        self.open = torch.arange(b.shape[1], device=b.device)
        self.p = torch.zeros_like(b)
        self.rz = torch.ones_like(self.norm_b)
        self._close(self.residuals <= tol, MET)
        self._direct(self.open)

    def _direct(self, columns: Tensor) -> None:
        """Begin anew, from the residual, in these columns."""
        if columns.numel():
            r = self.r[:, columns]
            z = r if self.preconditioner is None else self.preconditioner @ r
            self.p[:, columns], self.rz[columns] = z, dots(r, z)

    def _close(self, ended: Tensor, reason: str, converged: bool = True) -> None:
        """Take the open columns where `ended` [of open] holds out of the iteration."""
        for column in self.open[ended].tolist():
            self.reasons[column], self.converged[column] = reason, converged
        self.open = self.open[~ended]

    def step(self) -> None:
        """One iteration on every open column."""
        p = self.p[:, self.open]
        ap = self.operator @ p
        self.iterations += 1
        self.products += p.shape[1]
        curvature, squares = dots(p, ap), dots(p, p)
        eps = torch.finfo(p.dtype).eps
        bad = ~(curvature > eps * squares * self.norm_a[self.open])
        if bool(bad.any()):
            if not bool(torch.isfinite(curvature).all()):
                raise ValueError("A product of the operator is not finite: there is no system to solve.")
            first = int(bad.nonzero()[0])
            if self.negative is None:
                self.negative = p[:, first] / p[:, first].norm()
            good = ~bad
            p, ap, curvature, squares = p[:, good], ap[:, good], curvature[good], squares[good]
            self._close(bad, INDEFINITE, converged=False)
        o = self.open
        if not o.numel():
            return
        self.norm_a[o] = torch.maximum(self.norm_a[o], curvature / squares)
        alpha = (self.rz[o] / curvature).to(p.dtype)
        self.x[:, o] += alpha * p
        r = self.r[:, o] - alpha * ap
        self.r[:, o] = r
        z = r if self.preconditioner is None else self.preconditioner @ r
        rz = dots(r, z)
        self.p[:, o] = z + (rz / self.rz[o]).to(p.dtype) * p
        self.rz[o] = rz
        self.residuals[o] = norms(r) / self.norm_b[o]
        self._verify(o[self.residuals[o] <= 0.9 * self.tol])

    def _verify(self, columns: Tensor) -> None:
        """Measure the residual of columns whose recursion says they are done; those that are not begin anew."""
        if not columns.numel():
            return
        r = self.b[:, columns] - self.operator @ self.x[:, columns]
        self.products += columns.numel()
        self.r[:, columns] = r
        share = norms(r) / self.norm_b[columns]
        self.residuals[columns] = share
        eps = torch.finfo(r.dtype).eps
        floor = 8 * eps * (1 + self.norm_a[columns] * norms(self.x[:, columns]) / self.norm_b[columns])
        stalled = ~(share <= 0.5 * self.before[columns])
        self.before[columns] = share
        verdicts = (share <= self.tol, MET, True), (share <= floor, ROUNDED, True), (stalled, STALLED, False)
        for met, reason, good in verdicts:
            self._close(torch.isin(self.open, columns[met]), reason, good)
        self._direct(columns[torch.isin(columns, self.open)])

    def result(self, vector: bool) -> Solution:
        """The solution of all columns."""
        if not self.converged:
            return joined([], self.b, self.operator.shape[1])
        worst = next((i for i, good in enumerate(self.converged) if not good), int(self.residuals.argmax()))
        return Solution(
            self.x.squeeze(1) if vector else self.x,
            all(self.converged),
            self.iterations,
            self.products,
            float(self.residuals.max()),
            self.reasons[worst],
            self.negative,
        )


def dots(a: Tensor, b: Tensor) -> Tensor:
    """Inner products of columns [k], summed in float64."""
    return torch.sum(a * b, dim=0, dtype=torch.float64)


def norms(a: Tensor) -> Tensor:
    """Norms of columns [k], in float64."""
    return dots(a, a).sqrt()
