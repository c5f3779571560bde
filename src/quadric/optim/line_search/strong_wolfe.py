"""A step length that satisfies the strong Wolfe conditions."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from quadric.optim.line_search.search import (
    CONDITIONS_MET,
    EXHAUSTED,
    NOISE,
    NOT_DESCENT,
    NOT_FINITE,
    UNBOUNDED,
    LineSearch,
)


@dataclass(frozen=True)
class _Trial:
    alpha: float
    value: float
    slope: float

    @property
    def finite(self) -> bool:
        return math.isfinite(self.value) and math.isfinite(self.slope)


def strong_wolfe(
    phi: Callable[[float], tuple[float, float]],
    value: float,
    slope: float,
    *,
    first: float = 1.0,
    c1: float = 1e-4,
    c2: float = 0.9,
    max_evaluations: int = 40,
    noise: float | None = None,
) -> LineSearch:
    """α with φ(α) ≤ φ(0) + c₁ α φ′(0) and |φ′(α)| ≤ c₂ |φ′(0)|.

    Args:
        phi: α → (φ(α), φ′(α)) with φ(α) = f(w + α p). Values that are not finite count as too large.
        value, slope: φ(0) and φ′(0) = gᵀp.
        first: the first α; 1 for Newton-like directions.
        c1, c2: 0 < c₁ < c₂ < 1; small c₂ is an accurate search.
        noise: the rounding error of differences of φ; by default that of float64.

    Steps grow until an interval [low, high] holds an acceptable one, which is narrowed by cubic interpolation, and by
    halving where that is slow. Close to a minimum, where φ(α) − φ(0) is all rounding error, the sufficient decrease is
    read off the slopes, φ′(α) ≤ (2 c₁ − 1) φ′(0), which is the same for a parabola. On failure the result has the best
    α seen. References: Nocedal and Wright (2006), algorithms 3.5 and 3.6; Moré and Thuente (1994) for the safeguards;
    Hager and Zhang (2005), equation 4.1 for the slopes.
    """
    if not 0 < c1 < c2 < 1:
        raise ValueError(f"Expected 0 < c1 < c2 < 1, got c1 = {c1}, c2 = {c2}.")
    if not slope < 0:
        return LineSearch(0.0, value, slope, False, 0, NOT_DESCENT)
    noise = 4 * 2.0**-52 * abs(value) if noise is None else noise
    low, high = _Trial(0.0, value, slope), None
    before, best, finite = low, low, False
    alpha, widths = first, [math.inf, math.inf]
    for evaluation in range(1, max_evaluations + 1):
        trial = _Trial(alpha, *phi(alpha))
        finite = finite or trial.finite
        if trial.finite and trial.value < best.value:
            best = trial
        level = abs(trial.value - value) <= noise
        decreased = trial.value <= value + c1 * alpha * slope or (level and trial.slope <= (2 * c1 - 1) * slope)
        if trial.finite and decreased and abs(trial.slope) <= -c2 * slope:
            return LineSearch(alpha, trial.value, trial.slope, True, evaluation, CONDITIONS_MET)
        worse = not decreased if not level else trial.slope > 0
        if not trial.finite or worse or trial.value > low.value + noise:
            high = trial
        else:
            if trial.slope >= 0 if high is None else trial.slope * (high.alpha - low.alpha) >= 0:
                high = low
            before, low = low, trial
        if high is None:
            alpha = _farther(before, low)
            continue
        width = abs(high.alpha - low.alpha)
        if width <= 4 * 2.0**-52 * max(low.alpha, high.alpha):
            break
        alpha = _between(low, high, halve=width > 0.66 * widths[0])
        widths = [widths[1], width]
    reason = _reason(best, high, finite, noise, value, slope)
    return LineSearch(best.alpha, best.value, best.slope, False, evaluation, reason)


def _reason(best: _Trial, high: _Trial | None, finite: bool, noise: float, value: float, slope: float) -> str:
    if high is None:
        return UNBOUNDED
    if not finite:
        return NOT_FINITE
    return EXHAUSTED if best.value < value - noise else NOISE


def _farther(before: _Trial, last: _Trial) -> float:
    """Beyond the last step: where the cubic through the last two has its minimum, within 1.1 to 4 times their gap."""
    gap = last.alpha - before.alpha
    found = _cubic(before, last)
    far = last.alpha + 4 * gap
    return far if found is None or found <= last.alpha else min(max(found, last.alpha + 1.1 * gap), far)


def _between(low: _Trial, high: _Trial, *, halve: bool) -> float:
    """Inside the interval: the minimum of the cubic, not too near an end."""
    gap = high.alpha - low.alpha
    if not high.finite:
        return low.alpha + 0.1 * gap
    found = None if halve else _cubic(low, high)
    if found is None:
        return low.alpha + 0.5 * gap
    return low.alpha + min(max((found - low.alpha) / gap, 0.05), 0.95) * gap


def _cubic(a: _Trial, b: _Trial) -> float | None:
    """The minimiser of the cubic with a's and b's values and slopes (Nocedal and Wright 2006, equation 3.59)."""
    d1 = a.slope + b.slope - 3 * (a.value - b.value) / (a.alpha - b.alpha)
    square = d1 * d1 - a.slope * b.slope
    if not square >= 0:
        return None
    d2 = math.copysign(math.sqrt(square), b.alpha - a.alpha)
    bottom = b.slope - a.slope + 2 * d2
    found = b.alpha - (b.alpha - a.alpha) * (b.slope + d2 - d1) / bottom if bottom else math.nan
    return found if math.isfinite(found) else None
