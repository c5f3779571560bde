"""Extremal eigenpairs by decomposing the whole matrix."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from quadric.core.space import Space
from quadric.linalg.eigenpairs import Eigenpairs
from quadric.linalg.probes import seeded, signs
from quadric.linalg.wanted import listed, wanted_first
from quadric.operators.operator import LinearOperator


def dense_eigh(operator: LinearOperator, k: int, which: str, tol: float, spent: int) -> Eigenpairs:
    """The k wanted eigenpairs, by n products and O(n³) operations in float64; `spent` products went before.

    All eigenvalues are known, so nothing is missed: `upper` and `lower` are the next ones.
    """
    n, dtype = operator.shape[0], operator.dtype
    matrix = operator._dense()
    if not bool(torch.isfinite(matrix).all()):
        raise ValueError("A product of the operator is not finite: NaN or infinity in its parameters or data?")
    matrix = matrix.double().cpu()
    skew = _norm(matrix - matrix.T)  # twice what rounding did to its antisymmetric half, and so of the size of all
    theta, vectors = torch.linalg.eigh((matrix + matrix.T) / 2)
    order = wanted_first(theta, which)
    chosen, rest = order[:k], theta[order[k:]]
    chosen = chosen[listed(theta[chosen], which)]
    scale = float(theta.abs().max())
    kept = vectors[:, chosen].to(dtype)
    residuals = (matrix @ kept.double() - kept.double() * theta[chosen]).norm(dim=0)
    floor = skew + 4 * torch.finfo(dtype).eps * scale
    residuals = residuals + floor
    converged = bool((residuals <= tol * scale).all())
    upper, lower = beyond(rest, which, k)
    return Eigenpairs(
        theta[chosen], kept.to(operator.device), residuals, residuals, converged, spent + n, tol, scale, upper + floor,
        lower - floor, "the whole matrix was decomposed" if converged else rounding_reason(dtype),
    )  # fmt: skip


def _norm(skew: Tensor) -> float:
    """The spectral norm of an antisymmetric matrix, nearly, by power iteration on −K²."""
    x = signs(Space.euclidean(skew.shape[0], skew.dtype), 2, seeded(0))
    size = 0.0
    for _ in range(10):
        x = x / x.norm(dim=0).clamp_min(torch.finfo(skew.dtype).tiny)
        x = skew @ x
        size = float(x.norm(dim=0).max())
    return size


def beyond(rest: Tensor, which: str, k: int) -> tuple[float, float]:
    """The extremes of the eigenvalues that are not listed, at the ends that were asked about."""
    if rest.numel() == 0:
        return -math.inf, math.inf
    upper = float(rest.max()) if which != "SA" else math.inf
    lower = float(rest.min()) if which in ("SA", "LM") or (which == "BE" and k > 1) else -math.inf
    return upper, lower


def rounding_reason(dtype: torch.dtype) -> str:
    """Why an iteration in this precision can do no better."""
    name = str(dtype).removeprefix("torch.")
    return f"rounding errors of the products in {name} are above the tolerance; use float64 or a larger tol"
