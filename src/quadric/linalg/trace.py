"""The trace and the Frobenius norm of an operator: exact where structure or size allow, else estimated."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor

from quadric.core.errors import unknown_name
from quadric.core.progress import Progress, Reporter
from quadric.linalg.hutchinson import Hutchinson
from quadric.linalg.hutchpp import HutchPlusPlus
from quadric.linalg.probes import signs
from quadric.linalg.repeatable import check_repeatable
from quadric.linalg.sampling import Sampler, at_once, check_budget, ran_out, sampled
from quadric.linalg.watched import Watched
from quadric.linalg.xtrace import XTrace
from quadric.operators import queries
from quadric.operators.estimate import Estimate
from quadric.operators.operator import LinearOperator

METHODS: dict[str, type[Sampler]] = {"hutchinson": Hutchinson, "hutch++": HutchPlusPlus, "xtrace": XTrace}


def trace(
    operator: LinearOperator,
    *,
    method: str = "hutch++",
    products: int | None = None,
    tol: float | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> Estimate:
    """tr A: `.estimate` and `.standard_error`, zero where exact.

    In closed form where the structure has one; by n products where n is no more than the products to take; else by
    "hutch++" (the default: its standard error is that of independent samples), "hutchinson" (less work besides the
    products, best where the spectrum is flat) or "xtrace" (the smallest error where the spectrum decays, but a standard
    error that is only an upper estimate), with probes of `seed`.

    `products` is the number to take (default 99), of each part of a sum, or block, that has no closed form. With `tol`
    instead, products are added until the standard error is at most tol·|estimate|, or as many as `products` (default
    10,000) are spent, which gives a NotConverged warning; where that is expected to take more than n, n give the exact
    answer. Where parts that cancel leave the sum less sure than they are, it is sampled as a whole. `progress` is
    called with a line now and then. Raises ValueError for a rectangular operator, data that differ between readings, or
    a budget below 6 products.
    """
    operator.space  # noqa: B018 - raises where the operator is rectangular
    if method not in METHODS:
        raise unknown_name("method", method, METHODS)
    limit = check_budget(products, tol)
    check_repeatable(operator)

    def ask(part: LinearOperator) -> Estimate:
        closed = queries.trace(part, ask)
        return without_structure(part) if closed is None else closed

    def without_structure(part: LinearOperator) -> Estimate:
        n = part.shape[0]
        if at_once(n, limit, tol):
            return Estimate(_sum_of_diagonal(Watched(part, reporter, n)), 0.0, n)
        watched = Watched(part, reporter, limit if tol is None else None)
        exact = partial(_sum_of_diagonal, watched)
        return sampled(METHODS[method](watched, seed), exact, limit, tol, reporter)

    with Reporter(progress, "trace") as reporter:
        found = ask(operator)
        if tol is not None and found.converged and found.standard_error > tol * abs(found.estimate):
            whole = without_structure(operator)
            surer = whole if whole.converged or whole.standard_error < found.standard_error else found
            found = replace(surer, products=found.products + whole.products, converged=whole.converged)
    if tol is not None and not found.converged:
        ran_out("The trace", found.standard_error, tol * abs(found.estimate), found.products)
    return found


def _sum_of_diagonal(operator: Watched) -> float:
    """tr A, by n products."""
    return sum(float(part.diagonal(-first).double().sum()) for first, part in operator.columns())


def frobenius_norm(
    operator: LinearOperator,
    *,
    products: int | None = None,
    tol: float | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> Estimate:
    """‖A‖_F = (E ‖A ω‖²)^½ for random signs ω: `.estimate` and `.standard_error` (to first order), zero where exact.

    Budget, tolerance and progress as for `trace`; exact where n is no more than the products to take.
    """
    limit = check_budget(products, tol)
    check_repeatable(operator)
    n = operator.shape[1]
    with Reporter(progress, "Frobenius norm") as reporter:
        if at_once(n, limit, tol):
            return Estimate(math.sqrt(_sum_of_squares(Watched(operator, reporter, n))), 0.0, n)
        watched = Watched(operator, reporter, limit if tol is None else None)
        # the standard error of a square root is half as large, relatively
        twice = None if tol is None else 2 * tol
        exact = partial(_sum_of_squares, watched)
        squares = sampled(_Squares(watched, seed), exact, limit, twice, reporter)
    root = math.sqrt(max(squares.estimate, 0.0))
    error = squares.standard_error / (2 * root) if root else 0.0
    if tol is not None and not squares.converged:
        ran_out("The Frobenius norm", error, tol * root, squares.products)
    return Estimate(root, error, squares.products, squares.converged)


class _Squares(Hutchinson):
    """Hutchinson's estimator of tr AᵀA."""

    def grow(self, products: int) -> None:
        images = self.operator @ signs(self.operator.domain, products, self._generator)
        self._samples = torch.cat([self._samples, _squares(images)])


def _sum_of_squares(operator: Watched) -> float:
    """‖A‖_F², by n products."""
    return sum(float(_squares(part).sum()) for _, part in operator.columns())


def _squares(x: Tensor) -> Tensor:
    """‖xᵢ‖² over the columns, summed in float64 on the CPU."""
    return x.double().square().sum(0).cpu()
