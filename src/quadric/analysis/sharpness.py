"""How sharp a point is, and whether gradient descent is stable there."""

from __future__ import annotations

import math
from dataclasses import dataclass

from quadric.core.progress import Progress
from quadric.core.saved import Saved
from quadric.linalg.eigsh import eigsh
from quadric.linalg.trace import trace
from quadric.operators.estimate import Estimate
from quadric.operators.operator import LinearOperator


@dataclass(frozen=True)
class Sharpness(Saved):
    """`largest` eigenvalue, within `error` of the truth, and the `trace` with its standard error.

    `threshold` is the largest curvature at which the descent asked about is stable on the quadratic model, None where
    none was; `ratio` is largest / threshold: above 1 it diverges along the sharpest direction, and training at the edge
    of stability hovers at 1.
    """

    largest: float
    error: float
    converged: bool
    trace: Estimate
    threshold: float | None
    products: int

    @property
    def ratio(self) -> float | None:
        """largest / threshold."""
        return None if self.threshold is None else self.largest / self.threshold


def sharpness(
    operator: LinearOperator,
    *,
    lr: float | None = None,
    momentum: float = 0.0,
    tol: float = 1e-3,
    trace_tol: float | None = None,
    products: int | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> Sharpness:
    """The sharpness of a symmetric curvature: its largest eigenvalue, to `tol` of the largest magnitude, and its trace.

    The trace is estimated from `products` products, or to a standard error of `trace_tol` of itself (see `trace`). With
    the learning rate `lr` of gradient descent, the threshold 2/lr; with heavy-ball `momentum` ρ, 2 (1 + ρ)/lr. Raises
    ValueError for an lr that is not positive, a momentum outside [0, 1), or what `eigsh` and `trace` refuse. Reference:
    Cohen, Kaur, Li, Kolter and Talwalkar (2021), Gradient descent on neural networks typically occurs at the edge of
    stability, section 2.
    """
    if lr is not None and not (lr > 0 and math.isfinite(lr)):
        raise ValueError(f"Expected a learning rate > 0, got {lr!r}.")
    if not 0 <= momentum < 1:
        raise ValueError(f"Expected a momentum from 0 to below 1, got {momentum!r}.")
    top = eigsh(operator, 1, "LA", tol, seed=seed, progress=progress)
    total = trace(operator, products=products, tol=trace_tol, seed=seed, progress=progress)
    threshold = None if lr is None else 2 * (1 + momentum) / lr
    return Sharpness(
        float(top.eigenvalues[0]), float(top.errors[0]), top.converged, total, threshold, top.products + total.products
    )
