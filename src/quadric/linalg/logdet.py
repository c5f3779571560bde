"""The log-determinant of a positive definite operator."""

from __future__ import annotations

import math

import torch

from quadric.linalg.lanczos import lanczos
from quadric.linalg.limits import EXACT_BELOW
from quadric.linalg.probes import seeded, signs
from quadric.linalg.settled import settled
from quadric.linalg.shifted import check_damping, shifted
from quadric.operators import queries
from quadric.operators.definiteness import NotPositiveDefinite
from quadric.operators.dense import cholesky_of
from quadric.operators.estimate import Estimate
from quadric.operators.operator import LinearOperator


def logdet(
    operator: LinearOperator, damping: float = 0.0, *, probes: int = 20, steps: int = 50, seed: int = 0
) -> Estimate:
    """log det(C + λI): `.estimate` and `.standard_error`, zero where exact.

    In closed form where the structure gives one, by Cholesky for n ≤ 2,000, else by stochastic Lanczos quadrature with
    `probes` random signs of `seed` and `steps` steps each: probes·steps products. Its standard error is over probes; a
    condition number far above steps² leaves a bias besides. Raises NotPositiveDefinite as `inverse` does, and
    ValueError where C is not symmetric. Reference: Ubaru, Chen and Saad (2017), Fast estimation of tr(f(A)) via
    stochastic Lanczos quadrature.
    """
    operator.space  # noqa: B018 - raises where the operator is rectangular
    check_damping(damping)
    if probes < 2 or steps < 1:
        raise ValueError(f"Expected at least 2 probes and 1 step, got {probes} and {steps}.")

    def without_structure(part: LinearOperator, shift: float) -> Estimate:
        if part.shape[0] > EXACT_BELOW:
            return _quadrature(part, shift, probes, steps, seed)
        factor = cholesky_of(part, part._dense(), shift, "logdet")
        return Estimate(2 * float(factor.diagonal().double().log().sum()), 0.0, part.shape[0])

    def ask(part: LinearOperator, shift: float) -> Estimate:
        form = shifted(part, shift)
        ground = Estimate(part.shape[0] * math.log(form.factor))
        if form.base is None:
            return ground
        with form.findings():
            closed = queries.logdet(form.base, form.shift, ask)
        return without_structure(part, shift) if closed is None else ground + closed

    try:
        return ask(operator, damping)
    except NotPositiveDefinite as found:
        raise found.explained(damping) from None


def _quadrature(operator: LinearOperator, shift: float, probes: int, steps: int, seed: int) -> Estimate:
    """n · mean over probes of Σ_j (first entry of y_j)² log(θ_j + σ) over the Ritz values θ_j."""
    settled(operator)
    n, generator = operator.shape[0], seeded(seed)
    estimates, products = [], 0
    for start in signs(operator.space, probes, generator).unbind(1):
        found = lanczos(operator, start, steps)
        values, vectors = found.eigh()
        values = values + shift
        products += values.numel()
        if not bool((values > 0).all()):
            raise NotPositiveDefinite(float(values.min()), float(values.abs().max()), operator.dtype)
        estimates.append(n * float((vectors[0].square() * values.log()).sum()))
    spread = torch.tensor(estimates, dtype=torch.float64)
    return Estimate(float(spread.mean()), float(spread.std() / math.sqrt(probes)), products)
