"""Backtracking to a sufficient decrease."""

from __future__ import annotations

import math
from collections.abc import Callable

from quadric.optim.line_search.search import (
    CONDITIONS_MET,
    EXHAUSTED,
    NOISE,
    NOT_DESCENT,
    NOT_FINITE,
    LineSearch,
)


def armijo(
    phi: Callable[[float], float],
    value: float,
    slope: float,
    *,
    first: float = 1.0,
    c1: float = 1e-4,
    max_evaluations: int = 40,
    noise: float | None = None,
) -> LineSearch:
    """The first of a falling sequence of step lengths with φ(α) ≤ φ(0) + c₁ α φ′(0).

    Args:
        phi: α → φ(α) = f(w + α p). A value that is not finite counts as too large.
        value, slope: φ(0) and φ′(0) = gᵀp.
        first: the first α.
        noise: the rounding error of differences of φ; by default that of float64.

    Each α is the minimiser of the parabola through φ(0), φ′(0) and the last φ(α), kept within [0.1, 0.5] of the last α.
    Reference: Armijo (1966); Dennis and Schnabel (1983), algorithm A6.3.1.
    """
    if not slope < 0:
        return LineSearch(0.0, value, slope, False, 0, NOT_DESCENT)
    noise = 4 * 2.0**-52 * abs(value) if noise is None else noise
    alpha, best, lowest, finite = first, 0.0, value, False
    for evaluation in range(1, max_evaluations + 1):
        trial = phi(alpha)
        if trial <= value + c1 * alpha * slope:
            return LineSearch(alpha, trial, None, True, evaluation, CONDITIONS_MET)
        if trial < lowest:
            best, lowest = alpha, trial
        if math.isfinite(trial):
            finite = True
            if -alpha * slope <= noise:
                return LineSearch(best, lowest, None, False, evaluation, NOISE)
            alpha *= min(max(-slope * alpha / (2 * (trial - value - slope * alpha)), 0.1), 0.5)
        else:
            alpha *= 0.1
    return LineSearch(best, lowest, None, False, max_evaluations, EXHAUSTED if finite else NOT_FINITE)
