"""The log-determinant of a positive definite operator."""

from __future__ import annotations

import math
import warnings
from dataclasses import replace

import torch
from torch import Tensor

from quadric.core.errors import NotConverged
from quadric.core.progress import Progress, Reporter
from quadric.linalg.lanczos import Tridiagonal, lanczos
from quadric.linalg.limits import EXACT_BELOW
from quadric.linalg.probes import seeded, signs
from quadric.linalg.repeatable import check_repeatable
from quadric.linalg.sampling import check_tolerance, enlarged
from quadric.linalg.shifted import check_damping, shifted
from quadric.linalg.watched import Watched
from quadric.operators import queries
from quadric.operators.definiteness import NotPositiveDefinite
from quadric.operators.dense import cholesky_of
from quadric.operators.estimate import Estimate
from quadric.operators.operator import LinearOperator

FEWEST = 4
"""Steps, of which a quarter is looked at, too."""
LONGER, BASIS_BYTES = 16, 2**31
"""With a tolerance the steps grow to so many times those asked for, while their vectors fit into this."""


def logdet(
    operator: LinearOperator,
    damping: float = 0.0,
    *,
    probes: int = 20,
    steps: int = 50,
    tol: float | None = None,
    max_probes: int = 500,
    seed: int = 0,
    progress: Progress | None = None,
) -> Estimate:
    """log det(C + λI): `.estimate` and `.standard_error`, zero where exact.

    In closed form where the structure gives one, by Cholesky for n ≤ 2,000, else by stochastic Lanczos quadrature with
    `probes` random signs of `seed` and `steps` steps each: probes·steps products. The quadrature exceeds the truth
    where the condition number is far above steps²; what more steps would take off is told from half and a quarter of
    them, by Aitken's rule, and `standard_error` is that and the standard error over probes, added. With `tol`, steps
    are doubled and probes added until it is at most tol·|estimate|, of each part of a sum or block, or there are
    `max_probes` and 16 times as many steps (NotConverged). `progress` is called with a line now and then.

    Raises NotPositiveDefinite as `inverse` does, and ValueError where C is not symmetric. Reference: Ubaru, Chen and
    Saad (2017), Fast estimation of tr(f(A)) via stochastic Lanczos quadrature.
    """
    operator.space  # noqa: B018 - raises where the operator is rectangular
    check_damping(damping)
    if probes < 2 or steps < FEWEST:
        raise ValueError(f"Expected at least 2 probes and {FEWEST} steps, got {probes} and {steps}.")
    check_tolerance(tol)
    check_repeatable(operator)

    def without_structure(part: LinearOperator, shift: float) -> Estimate:
        n = part.shape[0]
        if n > EXACT_BELOW:
            watched = Watched(part, reporter, probes * steps if tol is None else None)
            return _quadrature(watched, shift, probes, steps, tol, max_probes, seed)
        factor = cholesky_of(part, Watched(part, reporter, n)._dense(), shift, "logdet")
        return Estimate(2 * float(factor.diagonal().double().log().sum()), 0.0, n)

    def ask(part: LinearOperator, shift: float) -> Estimate:
        form = shifted(part, shift)
        ground = Estimate(part.shape[0] * math.log(form.factor))
        if form.base is None:
            return ground
        with form.findings():
            closed = queries.logdet(form.base, form.shift, ask)
        return without_structure(part, shift) if closed is None else ground + closed

    try:
        with Reporter(progress, "log-determinant") as reporter:
            found = ask(operator, damping)
    except NotPositiveDefinite as refused:
        raise refused.explained(damping) from None
    allowed = math.inf if tol is None else tol * abs(found.estimate)
    if found.standard_error <= allowed and math.isfinite(found.standard_error):
        return replace(found, converged=True)
    warnings.warn(
        f"The log-determinant has an error of {found.standard_error:.2g} after {found.products} products, where "
        f"{allowed:.2g} is allowed: raise max_probes, steps, the damping or tol.",
        NotConverged,
        stacklevel=2,
    )
    return replace(found, converged=False)


def _quadrature(
    operator: LinearOperator, shift: float, probes: int, steps: int, tol: float | None, most: int, seed: int
) -> Estimate:
    """n · the mean over probes of `_at`, with more steps where these are too few, and more probes where those are."""
    n = operator.shape[0]
    longest = max(steps, min(LONGER * steps, n, BASIS_BYTES // (n * operator.dtype.itemsize)))
    generator = seeded(seed)
    looks: list[tuple[float, float, float]] = []
    products, goal = 0, probes
    while True:
        for start in signs(operator.space, goal - len(looks), generator).unbind(1):
            found = lanczos(operator, start, steps)
            products += found.diagonal.numel()
            looks.append(_looks(operator, found, shift, steps))
        whole, half, quarter = torch.tensor(looks, dtype=torch.float64).unbind(1)
        mean, spread = float(whole.mean()), float(whole.std() / math.sqrt(len(looks)))
        rounding = 100 * torch.finfo(operator.dtype).eps * max(abs(mean), n)
        bias = aitken(float(quarter.mean() - half.mean()), float(half.mean()) - mean, rounding)
        error, allowed = spread + bias, math.inf if tol is None else tol * abs(mean)
        if error <= allowed:
            return Estimate(mean, error, products)
        if bias > allowed / 2 and steps < longest:
            steps, looks, generator = min(2 * steps, longest), [], seeded(seed)
        elif bias <= allowed and spread > allowed / 2 and len(looks) < most:
            goal = min(most, enlarged(len(looks), 2 * spread / max(allowed, 1e-300)))
        else:
            return Estimate(mean, error, products, converged=False)


def _looks(operator: LinearOperator, found: Tridiagonal, shift: float, steps: int) -> tuple[float, float, float]:
    """n Σ_j (first entry of y_j)² log(θ_j + σ) over the Ritz values θ_j, of all, half and a quarter of the steps.

    All three are the same where Lanczos ended by itself: the space was invariant, and nothing is missing.
    """
    whole = _at(operator, found.matrix(), shift)
    made = found.diagonal.numel()
    if made < steps:
        return whole, whole, whole
    half, quarter = (_at(operator, found.matrix()[:k, :k], shift) for k in (made // 2, made // 4))
    return whole, half, quarter


def _at(operator: LinearOperator, matrix: Tensor, shift: float) -> float:
    values, vectors = torch.linalg.eigh(matrix)
    values = values + shift
    if not bool((values > 0).all()):
        raise NotPositiveDefinite(float(values.min()), float(values.abs().max()), operator.dtype)
    return operator.shape[0] * float((vectors[0].square() * values.log()).sum())


def aitken(first: float, second: float, rounding: float) -> float:
    """What is left of a sequence whose last two steps were `first` and `second`, if they shrink by a constant factor.

    Nothing but the last where that is within `rounding`; infinite where they do not shrink.
    """
    first, second = abs(first), abs(second)
    if second <= rounding:
        return second
    return second * second / (first - second) if second < first else math.inf
