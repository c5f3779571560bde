"""The trust-region subproblem solved exactly, on a matrix."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from quadric.linalg.trust_region_step import TrustRegionStep, check_subproblem

INTERIOR = "the minimiser of the model lies inside"
BOUNDARY = "the solution lies on the boundary"
HARD = "the hard case: g has no part along the lowest eigenvalue, an eigenvector leads to the boundary"


def trust_exact(matrix: Tensor, gradient: Tensor, radius: float) -> TrustRegionStep:
    """The global minimiser of m(p) = gᵀp + ½ pᵀBp over ‖p‖ ≤ Δ, for a symmetric matrix B [n, n], definite or not.

    p solves (B + λI) p = −g with λ ≥ 0, B + λI positive semi-definite and λ(Δ − ‖p‖) = 0; λ is found by Newton's method
    on 1/Δ − 1/‖p(λ)‖ in B's eigenvectors, the hard case included. Cost: O(n³).
    Raises ValueError where B or g do not fit or are not finite, or Δ ≤ 0. Reference: Moré and Sorensen (1983).
    """
    if matrix.shape != (len(gradient), len(gradient)):
        raise ValueError(f"Expected a matrix of shape {[len(gradient)] * 2}, got {list(matrix.shape)}.")
    if not bool(torch.isfinite(matrix).all()):
        raise ValueError("Expected a matrix of finite numbers, got NaN or infinity.")
    check_subproblem(gradient, radius)
    values, vectors = torch.linalg.eigh(matrix)
    return in_eigenbasis(values, vectors, vectors.T @ gradient, radius)


def in_eigenbasis(values: Tensor, vectors: Tensor, coefficients: Tensor, radius: float) -> TrustRegionStep:
    """The same with B = V diag(`values`) Vᵀ (ascending) and Vᵀg known: O(n) per radius, and one product with V."""
    lowest, scale = float(values[0]), float(values.abs().max())
    floor = torch.finfo(values.dtype).eps * scale
    inside = torch.where(coefficients == 0, 0.0, -coefficients / values)
    if lowest > floor and float(inside.norm()) <= radius:
        y, multiplier, reason = inside, 0.0, INTERIOR
    else:
        y, multiplier, reason = _on_boundary(values, coefficients, radius, max(0.0, -lowest), floor)
    length = float(y.norm())
    reduction = -(float(coefficients @ y) + 0.5 * float(y @ (values * y)))
    boundary = reason is not INTERIOR
    negative = vectors[:, 0] if lowest <= 0 else None
    return TrustRegionStep(vectors @ y, reduction, length, boundary, 0, reason, multiplier, negative)


def _on_boundary(
    values: Tensor, coefficients: Tensor, radius: float, least: float, floor: float
) -> tuple[Tensor, float, str]:
    """y, λ ≥ `least` and the reason. `least` is the smallest λ that makes B + λI semi-definite."""
    gap = values + least
    zero = gap <= 8 * floor
    rest = torch.where(zero, 0.0, -coefficients / torch.where(zero, 1.0, gap))
    blocked = float(torch.where(zero, coefficients, 0.0).norm())
    norm = float(coefficients.norm())
    if blocked <= 8 * torch.finfo(values.dtype).eps * norm and float(rest.norm()) <= radius:
        if least <= floor:  # singular and consistent: nothing to gain along the null space
            return rest, 0.0, INTERIOR
        rest[0] = math.copysign(math.sqrt(max(radius**2 - float(rest @ rest), 0.0)), -float(coefficients[0]))
        return rest, least, HARD
    # ‖p(λ)‖ ≤ ‖g‖ / (λ + λ₁) bounds λ from above; from the left, Newton's iterates on 1/Δ − 1/‖p‖ increase to the root
    low, high = least, least + norm / radius
    shift = max(blocked / radius, 1e-3 * (high - least), math.sqrt(floor * max(floor, high - least)))
    multiplier = least + min(shift, high - least)
    for _ in range(100):
        y = -coefficients / (values + multiplier)
        length = float(y.norm())
        if length > radius:
            low = multiplier
        else:
            high = multiplier
        if abs(length - radius) <= 1e-10 * radius or high - low <= 4 * torch.finfo(values.dtype).eps * high:
            break
        slope = float((y * y / (values + multiplier)).sum()) / length**2
        newton = multiplier + (length - radius) / radius / slope
        multiplier = newton if low < newton < high else 0.5 * (low + high)
    return y * min(1.0, radius / length), multiplier, BOUNDARY
