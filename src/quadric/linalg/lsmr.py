"""LSMR: least squares, and systems that are not symmetric."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from quadric.linalg.solution import Solution, check_system, joined
from quadric.operators.operator import LinearOperator


def lsmr(
    operator: LinearOperator, b: Tensor, *, damping: float = 0.0, tol: float = 1e-6, max_iterations: int | None = None
) -> Solution:
    """Minimise ‖A x − b‖² + λ‖x‖² for any A [m, n], for b [m] or several columns [m, k].

    Note that λ is added to AᵀA. It ends where ‖r‖ ≤ tol ‖b‖, or, with r of the damped problem, where
    ‖Aᵀr‖ ≤ tol ‖A‖ ‖r‖: that is a least-squares solution. `residual` is ‖b − A x‖ / ‖b‖ in the first case, and
    ‖Aᵀr‖ / (‖A‖ ‖r‖) in the second. At most `max_iterations` (default 10 min(m, n), at least 100); what did not
    converge gives a NotConverged warning.

    Cost: one product of A and one of Aᵀ an iteration and column, 3 n + m numbers. Reference: Fong and Saunders (2011),
    LSMR: an iterative algorithm for sparse least-squares problems.
    """
    return least_squares(operator, b, damping, tol, max_iterations).warn("LSMR")


def least_squares(
    operator: LinearOperator, b: Tensor, damping: float = 0.0, tol: float = 1e-6, max_iterations: int | None = None
) -> Solution:
    """`lsmr` without the warning: for callers that judge the result themselves."""
    check_system(operator, b, tol)
    if not (damping >= 0 and math.isfinite(damping)):
        raise ValueError(f"Expected a finite damping ≥ 0, got {damping}.")
    limit = max(100, 10 * min(operator.shape)) if max_iterations is None else max_iterations
    columns = [b] if b.dim() == 1 else list(b.unbind(1))
    return joined([_one_column(operator, column, damping, tol, limit) for column in columns], b, operator.shape[1])


def _rotation(a: float, b: float) -> tuple[float, float, float]:
    """c, s, r with [c s; −s c] (a, b)ᵀ = (r, 0)ᵀ."""
    r = math.hypot(a, b)
    return (1.0, 0.0, 0.0) if r == 0 else (a / r, b / r, r)


def _unit(x: Tensor) -> tuple[Tensor, float]:
    norm = float(x.norm())
    if not math.isfinite(norm):
        raise ValueError("A product of the operator is not finite: there is no system to solve.")
    return (x / norm, norm) if norm > 0 else (x, 0.0)


def _one_column(operator: LinearOperator, b: Tensor, damping: float, tol: float, limit: int) -> Solution:
    """Golub–Kahan bidiagonalisation with two sweeps of rotations; names as in Fong and Saunders, section 5."""
    transposed = operator.T
    norm_b = float(b.norm())
    u, beta = _unit(b)
    v, alpha = _unit(transposed @ u)
    x = torch.zeros_like(v)
    if norm_b == 0 or alpha == 0:
        return _measured(operator, x, b, damping, tol, 0, 1, alpha)
    root = math.sqrt(damping)
    alphabar, zetabar = alpha, alpha * beta
    rho = rhobar = cbar = 1.0
    sbar = 0.0
    h, hbar = v, torch.zeros_like(v)
    square = alpha**2
    k = 0
    for k in range(1, limit + 1):
        u, beta = _unit(operator @ v - alpha * u)
        v, alpha = _unit(transposed @ u - beta * v)
        square += beta**2 + alpha**2 + damping
        _, _, alphahat = _rotation(alphabar, root)
        rho_old, rhobar_old = rho, rhobar
        c, s, rho = _rotation(alphahat, beta)
        theta, alphabar = s * alpha, c * alpha
        thetabar, scaled = sbar * rho, cbar * rho
        cbar, sbar, rhobar = _rotation(scaled, theta)
        if rho == 0 or rhobar == 0:
            break
        zeta, zetabar = cbar * zetabar, -sbar * zetabar
        hbar = h - (thetabar * rho / (rho_old * rhobar_old)) * hbar
        x = x + (zeta / (rho * rhobar)) * hbar
        h = v - (theta / rho) * h
        # ‖Aᵀr‖ = |ζ̄|; it bounds ‖r‖ from below by |ζ̄| / ‖A‖, and what it promises is measured before it is believed
        if k % 10 == 0 or abs(zetabar) <= tol * math.sqrt(square) * norm_b or beta == 0 or alpha == 0:
            result = _measured(operator, x, b, damping, tol, k, 2 * k + 3, math.sqrt(square))
            if result.converged or beta == 0 or alpha == 0:
                return result
    return _measured(operator, x, b, damping, tol, k, 2 * k + 3, math.sqrt(square))


def _measured(
    operator: LinearOperator, x: Tensor, b: Tensor, damping: float, tol: float, iterations: int, products: int, a: float
) -> Solution:
    """x with its residuals as two products show them."""
    norm_b = float(b.norm())
    r = b - operator @ x
    share = float(r.norm()) / norm_b if norm_b else 0.0
    if share <= tol:
        return Solution(x, True, iterations, products, share, "the tolerance was met")
    normal = operator.T @ r - damping * x
    norm_r = math.hypot(float(r.norm()), math.sqrt(damping) * float(x.norm()))
    optimality = float(normal.norm()) / (a * norm_r) if a else 0.0
    if optimality <= tol:
        return Solution(x, True, iterations, products, optimality, "the solution of least squares was met")
    return Solution(
        x, False, iterations, products, share, "the iteration limit was reached or rounding errors stopped it"
    )
