"""What kind of point the present parameters are, with the evidence."""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from quadric.core.errors import NotConverged
from quadric.core.progress import Progress
from quadric.core.saved import Saved
from quadric.curvature.empirical_fisher import EmpiricalFisher
from quadric.curvature.hessian import Hessian
from quadric.curvature.regularity import Reading, read
from quadric.linalg.eigenpairs import Eigenpairs
from quadric.linalg.eigsh import eigsh
from quadric.linalg.limits import EXACT_BELOW
from quadric.linalg.minres import minimal_residuals
from quadric.linalg.repeatable import check_repeatable
from quadric.linalg.spectral_density import spectral_density
from quadric.linalg.trace import trace
from quadric.objective.objective import Objective

EXTREMAL = 6
"""Eigenvalues looked at in a large problem, half at each end."""
SOLVED = 1e-6
"""Tolerance of these, relative to the largest magnitude, where rounding errors allow it."""
STATIONARY = 1e-8
"""‖g‖ / (‖H‖ · max(‖w‖, 1)) of a stationary point, where rounding errors allow it."""


@dataclass(frozen=True)
class CriticalPoint(Saved):
    """What the evidence says of a point; `summary()` puts it in words.

    `kind`: "not stationary" where `gradient_norm` exceeds `gradient_tolerance`; else by the signs of the eigenvalues of
    the Hessian, where those within ±`tolerance` count as zero: "minimum" (all positive), "maximum" (all negative),
    "saddle" (some of each), else "degenerate": second derivatives don't decide. So is a point in a large problem whose
    extremal eigenvalues can't be told from zero, or of which the evidence leaves open whether one was missed.

    `index` is the number of negative eigenvalues, exact where `exact`, else an estimate within `index_range`.
    `eigenvalues` ascend: all n of them where exact, else extremal ones, each within its entry of `errors`.
    `gradient_noise` is the standard error of the gradient as a mean over the data's examples (None without examples).
    `newton_decrement` is (gᵀ|H|⁻¹g)^½ over the eigenvalues that are not zero, half its square being the decrease that
    the quadratic model promises (None where it was not found). `direction` is a unit vector [n] of most negative
    curvature, pointing downhill; None where no eigenvalue is negative. `converged` is whether the extremal eigenvalues
    met the eigensolver's tolerance; where they did not, `evidence` says so. `products` counts those of the Hessian.
    """

    kind: str
    index: int
    index_range: tuple[int, int]
    eigenvalues: Tensor
    errors: Tensor
    loss: float
    gradient_norm: float
    gradient_tolerance: float
    gradient_noise: float | None
    newton_decrement: float | None
    tolerance: float
    tolerance_reason: str
    direction: Tensor | None
    dimension: int
    exact: bool
    products: int
    evidence: str
    converged: bool = True

    def summary(self) -> str:
        """A few lines for a person."""
        low, high = float(self.eigenvalues[0]), float(self.eigenvalues[-1])
        count = str(self.index) if self.exact or self.index_range == (self.index, self.index) else (
            f"{self.index} (between {self.index_range[0]} and {self.index_range[1]})"
        )  # fmt: skip
        noise = "" if self.gradient_noise is None else f", sampling noise {self.gradient_noise:.3g}"
        return "\n".join(
            (
                f"{self.kind}: {count} of {self.dimension} eigenvalues negative, from {low:.4g} to {high:.4g}",
                f"loss {self.loss:.6g}, ‖gradient‖ {self.gradient_norm:.3g} (stationary up to "
                f"{self.gradient_tolerance:.3g}{noise})",
                f"zero means within {self.tolerance:.3g}: {self.tolerance_reason}",
                self.evidence,
            )
        )


@dataclass(frozen=True)
class _Spectrum:
    """Eigenvalues, ascending, with errors; a bound below (above) which none can be; how many are negative."""

    eigenvalues: Tensor
    errors: Tensor
    lower: float
    upper: float
    most_negative: Tensor
    products: int
    exact: bool
    vectors: Tensor | None
    reason: str = ""
    """Why the eigensolver did not converge; empty where it did."""

    @property
    def scale(self) -> float:
        return float(self.eigenvalues.abs().max())


def classify(
    objective: Objective,
    data: Any = None,
    *,
    gradient_tol: float | None = None,
    tol: float | None = None,
    max_products: int | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> CriticalPoint:
    """The kind of critical point that the present parameters are, for f over `data` (None for a plain function).

    A point is stationary where ‖g‖ ≤ `gradient_tol`; by default 1e-8 ‖H‖ max(‖w‖, 1), or 100 roundings of that size.
    An eigenvalue within ±`tol` is zero; by default what rounding errors, the eigensolver's errors and, at a stationary
    point, ‖g‖/max(‖w‖, 1) add up to: so far the gradient left over moves the zero eigenvalues of a symmetry.

    Up to n = 2,000 all eigenvalues are computed, by n Hessian products. Beyond, a few at each end by Lanczos with error
    bounds, by up to `max_products` products (default 5,000; then it warns, NotConverged), and the number of negative
    ones by stochastic Lanczos quadrature. A loss that draws random numbers (dropout in train mode) is seen for one draw
    of them, that of `seed`, which `evidence` says. The model is not changed. Raises ValueError where loss or gradient
    are not finite, data differ between readings, or a tolerance is not positive.
    """
    for name, value in (("gradient_tol", gradient_tol), ("tol", tol)):
        if value is not None and not (value >= 0 and math.isfinite(value)):
            raise ValueError(f"Expected a finite {name} ≥ 0, got {value!r}.")
    hessian = Hessian(objective, data, seed=seed)
    _check_finite(objective)
    check_repeatable(hessian)
    reading = read(hessian)
    _check_reading(reading)
    spectrum = _spectrum(hessian, max_products, seed, progress)
    length = max(1.0, float(objective.space.flatten([p.detach() for p in objective.parameters]).double().norm()))
    gradient = reading.gradient.double()
    norm = float(gradient.norm())
    eps = torch.finfo(hessian.dtype).eps
    if gradient_tol is None:
        gradient_tol = max(STATIONARY, 100 * eps) * spectrum.scale * length
    zero, reason = (
        _zero(spectrum, norm / length if norm <= gradient_tol else 0.0, eps) if tol is None else (tol, "given")
    )
    index, between, products = _negative(hessian, spectrum, zero, seed, progress)
    noise, without = _noise(objective, data, seed, progress)
    decrement, solving = _decrement(hessian, spectrum, gradient, zero)
    kind, evidence = _judge(spectrum, zero, norm <= gradient_tol)
    if reading.random:
        evidence += f" The loss draws random numbers (dropout?): all this is of one fixed draw, that of seed {seed}."
    low = float(spectrum.eigenvalues[0])
    return CriticalPoint(
        kind, index, between, spectrum.eigenvalues, spectrum.errors, reading.loss, norm, gradient_tol, noise,
        decrement, zero, reason,
        _downhill(spectrum.most_negative, gradient) if low < -zero else None,
        hessian.shape[0], spectrum.exact, spectrum.products + products + solving, evidence + without,
        not spectrum.reason,
    )  # fmt: skip


def _check_finite(objective: Objective) -> None:
    for name, parameter in zip(objective.names, objective.parameters, strict=True):
        if not bool(torch.isfinite(parameter).all()):
            raise ValueError(f"Parameter {name!r} holds NaN or infinity: there is no point to classify.")


def _check_reading(reading: Reading) -> None:
    if not (math.isfinite(reading.loss) and bool(torch.isfinite(reading.gradient).all())):
        raise ValueError(f"The loss is {reading.loss}, or its gradient is not finite: there is no point to classify.")


def _spectrum(hessian: Hessian, most: int | None, seed: int, progress: Progress | None) -> _Spectrum:
    n = hessian.shape[0]
    exact = n <= EXACT_BELOW
    if exact:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NotConverged)  # nothing but rounding, which the errors include
            found = eigsh(hessian, n, "SA", basis=n, seed=seed, progress=progress)
    else:
        tol = max(SOLVED, 100 * torch.finfo(hessian.dtype).eps)
        found = eigsh(hessian, EXTREMAL, "BE", tol, max_products=most, seed=seed, progress=progress)
    order = found.eigenvalues.argsort()
    values = found.eigenvalues[order]
    vectors = found.eigenvectors[:, order.to(found.eigenvectors.device)]
    lower, upper = (float(values[0]), float(values[-1])) if exact else _reach(found)
    return _Spectrum(
        values, found.errors[order], lower, upper, vectors[:, 0], found.products, exact, vectors if exact else None,
        "" if found.converged else found.reason,
    )  # fmt: skip


def _reach(found: Eigenpairs) -> tuple[float, float]:
    """Where all eigenvalues lie, as far as is known: by what is listed, and by the bounds for what is not."""
    low = float((found.eigenvalues - found.errors).min())
    high = float((found.eigenvalues + found.errors).max())
    return min(low, found.lower), max(high, found.upper)


def _zero(spectrum: _Spectrum, left: float, eps: float) -> tuple[float, str]:
    """Below what an eigenvalue can't be told from zero, and why."""
    rounding = 16 * eps * spectrum.scale * math.sqrt(spectrum.eigenvalues.numel())
    solver = float(spectrum.errors.max())
    return rounding + solver + left, (
        f"rounding {rounding:.2g}, errors of the eigenvalues {solver:.2g}, the gradient left over {left:.2g}"
    )


def _negative(
    hessian: Hessian, spectrum: _Spectrum, zero: float, seed: int, progress: Progress | None
) -> tuple[int, tuple[int, int], int]:
    """The number of eigenvalues below −zero, between which bounds it is, and the products that took."""
    seen = int((spectrum.eigenvalues < -zero).sum())
    if spectrum.exact or spectrum.lower >= -zero:
        return seen, (seen, seen), 0
    n = hessian.shape[0]
    found = spectral_density(
        hessian, threshold=max(zero, torch.finfo(torch.float64).tiny), seed=seed, progress=progress
    )
    low, high = max(seen, math.floor(n * found.negative.low)), max(seen, math.ceil(n * found.negative.high))
    return min(max(round(n * found.negative.estimate), low), high), (low, high), found.products


def _noise(objective: Objective, data: Any, seed: int, progress: Progress | None) -> tuple[float | None, str]:
    """(tr Cov / N)^½ over the examples of the data, or why not."""
    if data is None:
        return None, ""
    count = sum(batch.examples for batch in objective.batches(data))
    if count < 2:
        return None, ""
    try:
        fisher = EmpiricalFisher(objective, data, centered=True, seed=seed)
        spread = trace(fisher, method="hutchinson", seed=seed, progress=progress)
    except (ValueError, TypeError, NotImplementedError) as error:
        return None, f" No sampling noise: {error}"
    return math.sqrt(max(spread.estimate, 0.0) / (count - 1)), ""


def _decrement(hessian: Hessian, spectrum: _Spectrum, gradient: Tensor, zero: float) -> tuple[float | None, int]:
    """(gᵀ|H|⁻¹g)^½, by all eigenvectors, or where the Hessian is definite by MINRES; and the products that took."""
    if spectrum.vectors is not None:
        along = spectrum.vectors.double().T @ gradient
        values = spectrum.eigenvalues.to(along.device).abs()
        kept = values > zero
        return math.sqrt(float((along[kept].square() / values[kept]).sum())), 0
    if not (spectrum.lower > zero or spectrum.upper < -zero):
        return None, 0
    solved = minimal_residuals(hessian, gradient.to(hessian.dtype), 1e-3, 200)
    found = math.sqrt(abs(float(gradient @ solved.solution.double()))) if solved.converged else None
    return found, solved.products


def _downhill(direction: Tensor, gradient: Tensor) -> Tensor:
    return -direction if float(direction.double() @ gradient) > 0 else direction


def _judge(spectrum: _Spectrum, zero: float, stationary: bool) -> tuple[str, str]:
    """The kind, and in words what it rests on."""
    low, high = float(spectrum.eigenvalues[0]), float(spectrum.eigenvalues[-1])
    if spectrum.exact:
        basis = f"All {spectrum.eigenvalues.numel()} eigenvalues were computed."
    else:
        basis = "Extremal eigenvalues by Lanczos; "
        if math.isfinite(spectrum.lower) and math.isfinite(spectrum.upper):
            basis += f"with a probability of 98 % none lies below {spectrum.lower:.4g} or above {spectrum.upper:.4g}."
        else:
            basis += "how far others may lie beyond them is not known."
    if spectrum.reason:
        basis += f" The eigensolver did not converge, which the errors include: {spectrum.reason}."
    if not stationary:
        return "not stationary", basis + " The gradient is not zero, so the signs say nothing of a critical point."
    if low < -zero and high > zero:
        return "saddle", basis
    if spectrum.lower > zero:
        return "minimum", basis
    if spectrum.upper < -zero:
        return "maximum", basis
    if low > zero or high < -zero:
        return "degenerate", basis + " Nothing rules out that an eigenvalue of zero, or of the other sign, was missed."
    sign, sure = ("negative", spectrum.lower >= -zero) if low >= -zero else ("positive", spectrum.upper <= zero)
    none = f"and none is {sign}" if sure else f"and none that is {sign} was found, which does not rule one out"
    return "degenerate", f"{basis} Some can't be told from zero, {none}: second derivatives don't decide."
