"""The smallest eigenvalue that Lanczos finds, for the words of an error."""

from __future__ import annotations

from torch import Tensor

from quadric.linalg.lanczos import lanczos
from quadric.operators.operator import LinearOperator


def extremes(operator: LinearOperator, start: Tensor, steps: int = 80) -> tuple[float, float]:
    """A lower estimate of λ_min and the largest |λ|, from at most `steps` steps of Lanczos from `start`.

    λ_min is the smallest Ritz value less its residual: an eigenvalue lies within that distance of it.
    """
    found = lanczos(operator, start, steps)
    values, vectors = found.eigh()
    residuals = found.residuals(vectors)
    return float(values[0] - residuals[0]), float(values.abs().max())
