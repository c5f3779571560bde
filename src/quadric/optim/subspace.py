"""The quadratic model in the span of a few directions: its minimiser, and what it predicts.

With V the directions, A = VᵀCV and b = Vᵀg, the step s = V c changes the model by M(c) = bᵀc + ½ cᵀA c.
All of it is small, and in float64.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

Matrix = NDArray[np.float64]
Local = tuple[Matrix, Matrix, Matrix]
"""VᵀCV, VᵀV and Vᵀg of a few directions V."""

CUTOFF = 1e-12
"""Eigenvalues of A below this share of the largest count as zero."""


def minimiser(a: Matrix, b: Matrix, cutoff: float = CUTOFF) -> Matrix:
    """c = −A⁺ b: the minimiser of M, of least norm where directions are dependent, each scaled to curvature 1."""
    if len(b) == 2 and a[0, 0] > 0 and a[1, 1] > 0:
        return _minimiser_of_two(a, b, cutoff)
    scale = np.sqrt(np.abs(np.diag(a)))
    scale[scale == 0] = 1.0
    values, vectors = np.linalg.eigh(a / np.outer(scale, scale))
    keep = values > cutoff * max(values.max(), 0.0)
    inverse = np.where(keep, 1 / np.where(keep, values, 1.0), 0.0)
    return np.asarray(-(vectors @ (inverse * (vectors.T @ (b / scale)))) / scale)


def _minimiser_of_two(a: Matrix, b: Matrix, cutoff: float) -> Matrix:
    """The same for two directions: scaled, A = [[1, r], [r, 1]] has eigenvalues 1 ± r along (1, ±1)."""
    first, second = math.sqrt(a[0, 0]), math.sqrt(a[1, 1])
    r = float(a[0, 1]) / (first * second)
    p, q = float(b[0]) / first, float(b[1]) / second
    least = cutoff * (1 + abs(r))
    along = (p + q) / (2 * (1 + r)) if 1 + r > least else 0.0
    across = (p - q) / (2 * (1 - r)) if 1 - r > least else 0.0
    return np.array([-(along + across) / first, -(along - across) / second])


def change(a: Matrix, b: Matrix, c: Matrix) -> float:
    """M(c)."""
    return float(b @ c + 0.5 * c @ a @ c)


def share_within(a: Matrix, b: Matrix, c: Matrix, most: float) -> float:
    """The largest t in [0, 1] at which the step t c promises a reduction of at most `most`: −M(t c) ≤ most."""
    linear, quadratic = float(b @ c), float(c @ a @ c)
    if -(linear + 0.5 * quadratic) <= most or linear >= 0:
        return 1.0
    root = linear**2 - 2 * quadratic * most
    return 1.0 if root < 0 else 2 * most / (-linear + math.sqrt(root))
