"""Steihaug and Toint's conjugate gradients: the trust-region subproblem by products alone."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from quadric.linalg.trust_region_step import TrustRegionStep, check_subproblem
from quadric.operators.operator import LinearOperator

SMALL_RESIDUAL = "the residual is small enough"
BOUNDARY = "the boundary was reached"
NEGATIVE = "a direction of zero or negative curvature was met"
LIMIT = "the iteration limit was reached"


def steihaug(
    operator: LinearOperator,
    gradient: Tensor,
    radius: float = math.inf,
    *,
    tol: float | None = None,
    max_iterations: int | None = None,
) -> TrustRegionStep:
    """Minimise m(p) = gᵀp + ½ pᵀBp over ‖p‖ ≤ Δ approximately, for a symmetric B that may be indefinite.

    Conjugate gradients from p = 0, until ‖g + Bp‖ ≤ tol ‖g‖ (default min(½, √‖g‖), Newton's superlinear rate), the
    boundary, or a direction d with dᵀBd ≤ 0, which is followed to the boundary. With `radius` infinite it is truncated
    CG, and goes along such a direction as far as it would if its curvature had the other sign: m falls along d, and
    near a saddle the steps before d are short. Unlike `cg` it does not measure the residual at the end. At most
    `max_iterations` products (default 20 n, at least 100).

    Cost: one product an iteration, 4 n numbers. Raises ValueError where g or a product is not finite, or Δ ≤ 0.
    References: Steihaug (1983); Toint (1981); Nocedal and Wright (2006), algorithms 7.1 and 7.2.
    """
    operator.domain.check(gradient, dims=(1,))
    check_subproblem(gradient, radius)
    norm = float(gradient.norm())
    tol = min(0.5, math.sqrt(norm)) if tol is None else tol
    limit = max(100, 20 * operator.shape[0]) if max_iterations is None else max_iterations
    p, bp = torch.zeros_like(gradient), torch.zeros_like(gradient)
    r = gradient.clone()
    d, rr = -r, norm**2
    reason, boundary, negative, products = SMALL_RESIDUAL, False, None, 0
    while math.sqrt(rr) > tol * norm or (products == 0 and norm > 0):
        if products >= limit:
            reason = LIMIT
            break
        bd = operator @ d
        products += 1
        curvature, dd = _dot(d, bd), _dot(d, d)
        if not math.isfinite(curvature):
            raise ValueError("A product of the operator is not finite: there is no model to minimise.")
        alpha = rr / curvature if curvature > torch.finfo(d.dtype).eps * float(bd.norm()) * math.sqrt(dd) else None
        if alpha is None:
            negative, reason = d / math.sqrt(dd), NEGATIVE
            if math.isfinite(radius):
                alpha, boundary = _to_boundary(p, d, dd, radius), True
            else:
                alpha = rr / abs(curvature) if curvature else 1.0
        elif float((p + alpha * d).norm()) >= radius:
            alpha, boundary, reason = _to_boundary(p, d, dd, radius), True, BOUNDARY
        if alpha is not None:
            p, bp, r = p + alpha * d, bp + alpha * bd, r + alpha * bd
        if boundary or negative is not None:
            break
        rr, before = _dot(r, r), rr
        d = -r + (rr / before) * d
    reduction = -(_dot(gradient, p) + 0.5 * _dot(p, bp))
    found = p, reduction, float(p.norm()), boundary, products, reason
    return TrustRegionStep(*found, negative_curvature=negative, converged=reason != LIMIT)


def _to_boundary(p: Tensor, d: Tensor, dd: float, radius: float) -> float:
    """τ ≥ 0 with ‖p + τ d‖ = Δ: m falls along d, so the nearer root (τ < 0) is never the better one."""
    pd, pp = _dot(p, d), _dot(p, p)
    root = math.sqrt(max(pd * pd + dd * (radius * radius - pp), 0.0))
    return (radius * radius - pp) / (pd + root) if pd > 0 else (root - pd) / dd


def _dot(a: Tensor, b: Tensor) -> float:
    return float(a @ b)
