"""The spectral density of a symmetric operator, by stochastic Lanczos quadrature."""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from quadric.core.errors import NotConverged
from quadric.core.progress import Progress, Reporter
from quadric.core.saved import Saved
from quadric.linalg.lanczos import lanczos
from quadric.linalg.limits import EXACT_BELOW
from quadric.linalg.probes import gaussian, seeded
from quadric.linalg.repeatable import check_repeatable
from quadric.linalg.sampling import enlarged, more_products
from quadric.linalg.watched import Watched
from quadric.operators.operator import LinearOperator

NEAR_ZERO = 1e-3
"""Share of the largest magnitude within which an eigenvalue counts as near zero, unless told."""


@dataclass(frozen=True)
class Mass(Saved):
    """The share of eigenvalues in an interval: `estimate` ± `standard_error` over probes.

    `low` and `high` enclose it whatever the number of steps: Gauss quadrature brackets the distribution of each probe
    (Chebyshev, Markov and Stieltjes), and two standard errors of these brackets are added. `estimate` is midway in the
    brackets.
    """

    estimate: float
    standard_error: float
    low: float
    high: float


@dataclass(frozen=True)
class SpectralDensity(Saved):
    """φ(t) = (1/n) Σ_i N(t; λ_i, width²) on `grid` [points], with integral 1, as `density` [points].

    `standard_error` [points] is over probes, and `band` its two-sigma interval. `negative` is the share of eigenvalues
    below −threshold, `near_zero` that within ±threshold. `nodes` and `weights` [probes, steps] are the quadrature:
    (1/n) tr f(A) ≈ mean over probes of Σ_j weights f(nodes). `exact` where all eigenvalues were computed instead.
    `converged` is whether the standard errors are within the tolerance that was asked for, if one was.
    """

    grid: Tensor
    density: Tensor
    standard_error: Tensor
    width: float
    negative: Mass
    near_zero: Mass
    threshold: float
    nodes: Tensor
    weights: Tensor
    dimension: int
    products: int
    exact: bool = False
    converged: bool = True

    @property
    def band(self) -> tuple[Tensor, Tensor]:
        """Lower and upper ends [points] of the two-sigma confidence band; a density is not negative."""
        half = 2 * self.standard_error
        return (self.density - half).clamp_min(0), self.density + half

    def mass(self, low: float = -math.inf, high: float = math.inf) -> Mass:
        """The share of eigenvalues in (low, high]."""
        if not low < high:
            raise ValueError(f"Expected low < high, got {low} and {high}.")
        return _mass(self.nodes, self.weights, low, high, self.exact)


def spectral_density(
    operator: LinearOperator,
    *,
    steps: int = 40,
    probes: int = 10,
    points: int = 1_001,
    width: float | None = None,
    threshold: float | None = None,
    tol: float | None = None,
    max_probes: int = 200,
    seed: int = 0,
    progress: Progress | None = None,
) -> SpectralDensity:
    """The density of the eigenvalues of A, smoothed by a Gaussian of standard deviation `width`.

    Each of `probes` Gaussian vectors of `seed` starts `steps` steps of Lanczos, fully reorthogonalised, whose Ritz
    values and first components squared are a Gauss quadrature of its distribution of eigenvalues; the standard errors
    are over probes. With `tol`, probes are added until the standard errors of the density, averaged over the grid, are
    at most `tol` of it, and those of both masses at most `tol`, or `max_probes` are spent (NotConverged). Where n is no
    more than probes·steps, all eigenvalues are computed instead; and so they are for n ≤ 2,000 where `tol` is expected
    to take more than n products. `progress` is called with a line now and then.

    `width` defaults to 1 % of the spectrum's range (at least 1e-6 of the largest magnitude), `threshold` to 1e-3 of the
    largest magnitude. A width below the distance of Ritz values shows the quadrature, not the spectrum. Cost:
    probes·steps products, n·steps numbers.

    Raises ValueError where A is not known to be symmetric, its data differ between readings, or an argument is out of
    range. References: Ubaru, Chen and Saad (2017); Ghorbani, Krishnan and Xiao (2019), appendix A.
    """
    n = operator.space.numel
    _check(operator, steps, probes, points, width, threshold, tol)
    check_repeatable(operator)
    with Reporter(progress, "spectral density") as reporter:
        if n <= probes * steps:
            return _exact(Watched(operator, reporter, n), 0, points, width, threshold)
        generator = seeded(seed)
        parts: list[tuple[Tensor, Tensor]] = []
        goal, products = probes, 0
        while True:
            while len(parts) < goal:
                start = gaussian(operator.space, 1, generator).squeeze(1)
                values, taken = _quadrature(operator, start, steps)
                parts.append(values)
                products += taken
                reporter.report(f"{products} products, {len(parts)} of {goal} probes")
            nodes, weights = (torch.stack(side) for side in zip(*parts, strict=True))
            found = _built(nodes, weights, n, products, points, width, threshold)
            excess = 0.0 if tol is None else _excess(found, tol)
            if excess <= 1 or len(parts) >= max_probes:
                break
            if n <= EXACT_BELOW and more_products(products, n, max_probes * steps, excess) is None:
                return _exact(Watched(operator, reporter, n), products, points, width, threshold)
            goal = min(max_probes, enlarged(len(parts), excess))
    if excess > 1:
        warnings.warn(
            f"The spectral density has standard errors {excess:.2g} times what was asked for after {max_probes} "
            "probes: raise max_probes, width or tol.",
            NotConverged,
            stacklevel=2,
        )
        return replace(found, converged=False)
    return found


def _check(
    operator: LinearOperator,
    steps: int,
    probes: int,
    points: int,
    width: float | None,
    threshold: float | None,
    tol: float | None,
) -> None:
    if not operator.symmetric:
        raise ValueError(
            f"A spectral density needs a symmetric operator, and this {type(operator).__name__} of shape "
            f"{operator.shape} is not known to be one. If you know that it is, say so with claim_symmetric(operator)."
        )
    if steps < 2 or probes < 2 or points < 2:
        raise ValueError(f"Expected at least 2 steps, probes and points, got {steps}, {probes} and {points}.")
    for name, value in (("width", width), ("threshold", threshold)):
        if value is not None and not (value > 0 and math.isfinite(value)):
            raise ValueError(f"Expected a finite {name} > 0, got {value!r}.")
    if tol is not None and not 0 < tol < 1:
        raise ValueError(f"Expected a tolerance between 0 and 1, got {tol!r}.")


def _exact(operator: Watched, spent: int, points: int, width: float | None, threshold: float | None) -> SpectralDensity:
    """By all eigenvalues, with n products; `spent` went before."""
    n = operator.shape[0]
    values = torch.linalg.eigvalsh(_symmetric(operator._dense())).unsqueeze(0)
    return _built(values, torch.full_like(values, 1 / n), n, spent + n, points, width, threshold, exact=True)


def _symmetric(matrix: Tensor) -> Tensor:
    if not bool(torch.isfinite(matrix).all()):
        raise ValueError("A product of the operator is not finite: NaN or infinity in its parameters or data?")
    matrix = matrix.double().cpu()
    return (matrix + matrix.T) / 2


def _quadrature(operator: LinearOperator, start: Tensor, steps: int) -> tuple[tuple[Tensor, Tensor], int]:
    """Nodes and weights [steps] of one probe, ascending, unused ones with weight 0; and the products that it took."""
    found = lanczos(operator, start, steps)
    if not bool(torch.isfinite(found.diagonal).all()):
        raise ValueError("A product of the operator is not finite: NaN or infinity in its parameters or data?")
    values, vectors = found.eigh()
    short = steps - values.numel()
    values, weights = values.cpu(), vectors[0].square().cpu()
    padded = torch.cat([values, values[-1:].expand(short)]), torch.cat([weights, weights.new_zeros(short)])
    return padded, values.numel()


def _built(
    nodes: Tensor,
    weights: Tensor,
    n: int,
    products: int,
    points: int,
    width: float | None,
    threshold: float | None,
    exact: bool = False,
) -> SpectralDensity:
    low, high = float(nodes.min()), float(nodes.max())
    scale = max(abs(low), abs(high))
    width = width or max(0.01 * (high - low), 1e-6 * scale) or 1.0
    threshold = threshold or NEAR_ZERO * scale or torch.finfo(torch.float64).tiny
    grid = torch.linspace(low - 4 * width, high + 4 * width, points, dtype=torch.float64)
    curves = torch.stack(
        [
            (w * torch.exp(-0.5 * ((grid.unsqueeze(1) - t) / width).square())).sum(1) / (width * math.sqrt(2 * math.pi))
            for t, w in zip(nodes, weights, strict=True)
        ]
    )
    error = torch.zeros_like(grid) if exact else curves.std(0) / math.sqrt(curves.shape[0])
    negative = _mass(nodes, weights, -math.inf, -threshold, exact)
    near = _mass(nodes, weights, -threshold, threshold, exact)
    return SpectralDensity(
        grid, curves.mean(0), error, width, negative, near, threshold, nodes, weights, n, products, exact
    )


def _excess(found: SpectralDensity, tol: float) -> float:
    """How many times the largest of the standard errors is what was asked for."""
    curve = float(found.standard_error.mean() / found.density.mean())
    return max(curve, found.negative.standard_error, found.near_zero.standard_error) / tol


def _mass(nodes: Tensor, weights: Tensor, low: float, high: float, exact: bool) -> Mass:
    if exact:
        share = float(weights[(nodes > low) & (nodes <= high)].sum())
        return Mass(share, 0.0, share, share)
    below_least, below_most = _below(nodes, weights, high)
    above_least, above_most = _below(nodes, weights, low)
    least, most = (below_least - above_most).clamp_min(0), below_most - above_least
    root = math.sqrt(nodes.shape[0])
    middle = (weights * ((nodes > low) & (nodes <= high))).sum(1).clamp(least, most)
    return Mass(
        float(middle.mean()),
        float(middle.std()) / root,
        max(0.0, float(least.mean() - 2 * least.std() / root)),
        min(1.0, float(most.mean() + 2 * most.std() / root)),
    )


def _below(nodes: Tensor, weights: Tensor, x: float) -> tuple[Tensor, Tensor]:
    """Brackets [probes] of each probe's mass at and below x: all nodes before the last one below x, and one more.

    For nodes θ₁ < … < θ_m the distribution function F obeys Σ_{i<j} w_i ≤ F(θ_j −) ≤ F(θ_j) ≤ Σ_{i≤j} w_i.
    """
    if math.isinf(x):
        whole = torch.full_like(weights[:, 0], 0.0 if x < 0 else 1.0)
        return whole, whole
    cumulated = torch.cat([torch.zeros_like(weights[:, :1]), weights.cumsum(1)], dim=1)
    below = (nodes <= x).sum(1, keepdim=True)
    last = nodes.shape[1]
    least = cumulated.gather(1, (below - 1).clamp_min(0)).squeeze(1)
    most = cumulated.gather(1, (below + 1).clamp_max(last)).squeeze(1)
    return least, most.clamp_max(1.0)
