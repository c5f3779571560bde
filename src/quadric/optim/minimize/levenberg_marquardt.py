"""Levenberg and Marquardt's method for least squares, f = ½‖r‖²."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace

import torch

from quadric.linalg.limits import EXACT_BELOW
from quadric.linalg.steihaug import steihaug
from quadric.linalg.trust_exact import in_eigenbasis
from quadric.linalg.trust_region_step import TrustRegionStep
from quadric.optim.minimize.function import Point
from quadric.optim.minimize.run import Iterate
from quadric.optim.minimize.trust_region import Model, trust_region


class _Scaled(Model):
    """½‖r + Jp‖² over ‖Dp‖ ≤ Δ, D the largest norms seen of J's columns, so that units of x do not matter.

    Solved in the singular vectors of J D⁻¹, which keeps the digits that JᵀJ would lose.
    """

    exact = True

    def __init__(self) -> None:
        self.scale: torch.Tensor | None = None
        self._solved: tuple[Point, torch.Tensor, torch.Tensor, torch.Tensor] | None = None

    def scale_at(self, point: Point) -> torch.Tensor:
        """D."""
        norms = point.jacobian.norm(dim=0)
        self.scale = torch.where(norms > 0, norms, 1.0) if self.scale is None else torch.maximum(self.scale, norms)
        return self.scale

    def minimiser(self, point: Point, radius: float) -> TrustRegionStep:
        if self._solved is None or self._solved[0] is not point:
            assert point.residuals is not None
            u, s, vh = torch.linalg.svd(point.jacobian / self.scale_at(point), full_matrices=False)
            order = torch.arange(len(s) - 1, -1, -1, device=s.device)
            self._solved = point, (s * s)[order], vh.T[:, order], (s * (u.T @ point.residuals.to(u)))[order]
        _, values, vectors, coefficients = self._solved
        solved = in_eigenbasis(values, vectors, coefficients, radius)
        assert self.scale is not None
        return replace(solved, step=solved.step / self.scale, negative_curvature=None)


class _Products(Model):
    """The same without scaling, by products with JᵀJ."""

    def minimiser(self, point: Point, radius: float) -> TrustRegionStep:
        return steihaug(point.ggn, point.gradient, radius)


def levenberg_marquardt(start: Point, *, factor: float = 100.0, eta: float = 1e-4) -> Iterator[Iterate]:
    """(JᵀJ + λD²) p = −Jᵀr with λ such that ‖Dp‖ ≤ Δ; Δ begins at `factor` ‖Dx₀‖ (`factor` where that is 0).

    Up to n = 2,000 by the singular values of J (its matrix is kept); beyond by conjugate gradients on products with
    JᵀJ. Reference: Moré (1978), The Levenberg–Marquardt algorithm: implementation and theory.
    """
    if start.function.n > EXACT_BELOW:
        model: Model = _Products()
        length = float(start.x.norm())
    else:
        model = _Scaled()
        length = float((model.scale_at(start) * start.x).norm())
    return trust_region(start, model, factor * length if length > 0 else factor, math.inf, eta)
