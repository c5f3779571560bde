"""The log-determinant of a positive definite operator."""

from __future__ import annotations

import math
import warnings

import torch

from quadric.core.errors import NotConverged
from quadric.core.progress import Progress, Reporter
from quadric.linalg.lanczos import lanczos
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
    `probes` random signs of `seed` and `steps` steps each: probes·steps products. With `tol`, probes are added until
    the standard error is at most tol·|estimate|, or there are `max_probes` (NotConverged). The standard error is over
    probes; a condition number far above steps² leaves a bias besides. `progress` is called with a line now and then.

    Raises NotPositiveDefinite as `inverse` does, and ValueError where C is not symmetric. Reference: Ubaru, Chen and
    Saad (2017), Fast estimation of tr(f(A)) via stochastic Lanczos quadrature.
    """
    operator.space  # noqa: B018 - raises where the operator is rectangular
    check_damping(damping)
    if probes < 2 or steps < 1:
        raise ValueError(f"Expected at least 2 probes and 1 step, got {probes} and {steps}.")
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
            return ask(operator, damping)
    except NotPositiveDefinite as found:
        raise found.explained(damping) from None


def _quadrature(
    operator: LinearOperator, shift: float, probes: int, steps: int, tol: float | None, most: int, seed: int
) -> Estimate:
    """n · mean over probes of Σ_j (first entry of y_j)² log(θ_j + σ) over the Ritz values θ_j."""
    n, generator = operator.shape[0], seeded(seed)
    estimates: list[float] = []
    products, goal = 0, probes
    while True:
        for start in signs(operator.space, goal - len(estimates), generator).unbind(1):
            found = lanczos(operator, start, steps)
            values, vectors = found.eigh()
            values = values + shift
            products += values.numel()
            if not bool((values > 0).all()):
                raise NotPositiveDefinite(float(values.min()), float(values.abs().max()), operator.dtype)
            estimates.append(n * float((vectors[0].square() * values.log()).sum()))
        spread = torch.tensor(estimates, dtype=torch.float64)
        mean, error = float(spread.mean()), float(spread.std() / math.sqrt(len(estimates)))
        allowed = math.inf if tol is None else tol * abs(mean)
        if error <= allowed:
            return Estimate(mean, error, products)
        if len(estimates) >= most:
            break
        goal = min(most, enlarged(len(estimates), error / max(allowed, 1e-300)))
    warnings.warn(
        f"The log-determinant has a standard error of {error:.2g} after {most} probes, where {allowed:.2g} was asked "
        "for: raise max_probes or tol.",
        NotConverged,
        stacklevel=5,
    )
    return Estimate(mean, error, products, converged=False)
