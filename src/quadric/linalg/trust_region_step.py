"""What a solver of the trust-region subproblem hands back."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class TrustRegionStep:
    """p that (nearly) minimises m(p) = gᵀp + ½ pᵀBp over ‖p‖ ≤ Δ.

    `reduction` is −m(p), `length` ‖p‖, `on_boundary` whether ‖p‖ = Δ. `multiplier` is λ of (B + λI) p = −g where the
    solver finds it. `negative_curvature` is a unit vector d with dᵀBd ≤ 0 where one was met. `converged` is False where
    the iteration limit came first.
    """

    step: Tensor
    reduction: float
    length: float
    on_boundary: bool
    products: int
    reason: str
    multiplier: float | None = None
    negative_curvature: Tensor | None = None
    converged: bool = True


def check_subproblem(gradient: Tensor, radius: float) -> None:
    """Raise ValueError unless g is finite and Δ > 0."""
    if not bool(torch.isfinite(gradient).all()):
        raise ValueError("Expected a gradient of finite numbers, got NaN or infinity.")
    if not radius > 0 or math.isnan(radius):
        raise ValueError(f"Expected a trust-region radius > 0, got {radius}.")
