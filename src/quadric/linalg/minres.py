"""MINRES: minimal residuals for symmetric systems, indefinite ones included."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from quadric.linalg.solution import Solution, check_system, joined
from quadric.operators.operator import LinearOperator


def minres(operator: LinearOperator, b: Tensor, *, tol: float = 1e-6, max_iterations: int | None = None) -> Solution:
    """Solve A x = b for a symmetric A, definite or not, to ‖b − A x‖ ≤ tol ‖b‖, for b [n] or several columns [n, k].

    The first residual along which A has negative curvature is returned with the solution. On a singular A the residual
    may have nowhere to go: the iteration ends at the least residual, and says so. At most `max_iterations` (default
    10 n, at least 100); what did not converge gives a NotConverged warning.

    Cost: one product and 17 n operations an iteration and column, 8 n numbers. Raises ValueError where A is not known
    to be symmetric, or b does not fit. References: Paige and Saunders (1975); Liu and Roosta (2022), MINRES: from
    negative curvature detection to monotonicity properties, for the curvature along residuals.
    """
    return minimal_residuals(operator, b, tol, max_iterations).warn("MINRES")


def minimal_residuals(
    operator: LinearOperator, b: Tensor, tol: float = 1e-6, max_iterations: int | None = None
) -> Solution:
    """`minres` without the warning: for callers that judge the result themselves."""
    check_system(operator, b, tol, symmetric="MINRES")
    limit = max(100, 10 * operator.shape[0]) if max_iterations is None else max_iterations
    columns = [b] if b.dim() == 1 else list(b.unbind(1))
    return joined([_refined(operator, column, tol, limit) for column in columns], b, operator.shape[1])


def _refined(operator: LinearOperator, b: Tensor, tol: float, limit: int) -> Solution:
    """Solve one column, measure the residual, and solve for what is left while that helps."""
    norm_b = float(b.norm())
    x, r = torch.zeros_like(b), b
    iterations = products = 0
    share, least = (1.0, False) if norm_b else (0.0, False)
    negative: Tensor | None = None
    while share > tol and iterations < limit:
        step, steps, least, direction = _one_column(operator, r, 0.9 * tol / share, limit - iterations)
        negative = direction if negative is None else negative
        new = b - operator @ (x + step)
        iterations, products = iterations + steps, products + steps + 1
        improved = float(new.norm()) / norm_b
        if improved < share:
            x, r = x + step, new
        stalled = not improved < 0.5 * share
        share = min(share, improved)
        if stalled or least:
            break
    if share <= tol:
        reason = "the tolerance was met"
    elif least:
        reason = "the residual is the least there is: the system is singular, and b is not in its range"
    elif iterations >= limit:
        reason = "the iteration limit was reached"
    else:
        reason = "rounding errors stopped it: use float64 or more damping"
    return Solution(x, share <= tol, iterations, products, share, reason, negative)


def _one_column(operator: LinearOperator, b: Tensor, tol: float, limit: int) -> tuple[Tensor, int, bool, Tensor | None]:
    """x, the iterations, whether ‖A r‖ says that the residual is the least, and a direction of negative curvature.

    Lanczos with Givens rotations; q = r / ‖r‖ up to its sign, and qᵀA q = c ρ₁ with the last rotation's c.
    """
    eps = torch.finfo(b.dtype).eps
    beta = norm_b = float(b.norm())
    x, v_old, v = torch.zeros_like(b), torch.zeros_like(b), b / beta
    w_old, w = torch.zeros_like(b), torch.zeros_like(b)
    q, negative = v, None
    c_old = c = 1.0
    s_old = s = 0.0
    phi, beta, norm_a = norm_b, 0.0, 0.0
    for k in range(1, limit + 1):
        u = operator @ v
        alpha = float(u @ v)
        if not math.isfinite(alpha):
            raise ValueError("A product of the operator is not finite: there is no system to solve.")
        u = u - alpha * v - beta * v_old
        beta_next = float(u.norm())
        norm_a = max(norm_a, math.hypot(alpha, beta, beta_next))
        rho3, t = s_old * beta, c_old * beta
        rho2, rho1 = c * t + s * alpha, c * alpha - s * t
        rho = math.hypot(rho1, beta_next)
        if negative is None and c * rho1 < -100 * eps * norm_a:
            negative = q / q.norm()
        # ‖A r‖ / ‖r‖ of the residual so far: where it is zero to rounding there is nothing left to gain
        if math.hypot(rho1, c * beta_next) <= 100 * eps * norm_a:
            return x, k, True, negative
        c_old, s_old, c, s = c, s, rho1 / rho, beta_next / rho
        w_old, w = w, (v - rho2 * w - rho3 * w_old) / rho
        x = x + (c * phi) * w
        phi = -s * phi
        if abs(phi) <= tol * norm_b or beta_next <= eps * norm_a:
            return x, k, False, negative
        v_old, v, beta = v, u / beta_next, beta_next
        q = c * v - s * q
    return x, limit, False, negative
