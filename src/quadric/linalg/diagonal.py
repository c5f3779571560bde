"""The diagonal of an operator: exact where structure or size allow, else estimated and said so."""

from __future__ import annotations

import torch
from torch import Tensor

from quadric.core.progress import Progress, Reporter
from quadric.linalg.diagpp import DiagPlusPlus
from quadric.linalg.limits import EXACT_BELOW
from quadric.linalg.repeatable import check_repeatable
from quadric.linalg.sampling import FIRST, check_budget, more_products, ran_out
from quadric.linalg.watched import Watched
from quadric.operators import queries
from quadric.operators.diagonal import Diagonal
from quadric.operators.operator import LinearOperator


def diagonal(
    operator: LinearOperator,
    *,
    products: int | None = None,
    tol: float | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> Diagonal:
    """diag A as a diagonal operator: `.values`, `.standard_error`, `.exact`, `.converged`, `.products`; it saves.

    In closed form where the structure has one; by n products for n ≤ 2,000; else by Diag++ with `products` products
    (default 99; of each part of a sum, or block) and random signs from `seed`, unbiased, with a standard error for each
    entry. With `tol` instead, products are added until the standard errors, together as one vector, are at most `tol`
    of the diagonal's length, or as many as `products` (default 10,000) are spent, which gives a NotConverged warning;
    where that is expected to take more than n, n give the exact answer; where parts that cancel leave the sum less sure
    than they are, it is sampled as a whole. `progress` is called with a line now and then. Raises ValueError for a
    rectangular operator, data that differ between readings, or fewer than 6 products.
    """
    operator.space  # noqa: B018 - raises where the operator is rectangular
    limit = check_budget(products, tol)
    check_repeatable(operator)

    def ask(part: LinearOperator) -> Diagonal:
        closed = queries.diagonal(part, ask)
        return without_structure(part) if closed is None else closed

    def without_structure(part: LinearOperator) -> Diagonal:
        if part.shape[0] <= EXACT_BELOW:
            return _exact(Watched(part, reporter, part.shape[0]), 0)
        return _estimated(Watched(part, reporter, limit if tol is None else None), limit, tol, seed, reporter)

    with Reporter(progress, "diagonal") as reporter:
        found = ask(operator)
        if tol is not None and found.converged and length(found.standard_error) > tol * length(found.values):
            whole = without_structure(operator)
            better = whole.converged or length(whole.standard_error) < length(found.standard_error)
            surer = whole if better else found
            error = None if surer.exact else surer.standard_error
            products = found.products + whole.products
            found = Diagonal(surer.values, surer.space, error, products=products, converged=whole.converged)
    if tol is not None and not found.converged:
        ran_out("The diagonal", length(found.standard_error), tol * length(found.values), found.products)
    return found


def length(x: Tensor) -> float:
    """‖x‖."""
    return float(x.double().norm())


def _exact(operator: Watched, spent: int) -> Diagonal:
    """By n products; `spent` went before."""
    n = operator.shape[0]
    values = torch.empty(n, dtype=operator.dtype, device=operator.device)
    for first, part in operator.columns():
        values[first : first + part.shape[1]] = part.diagonal(-first)
    return Diagonal(values, operator.space, products=spent + n)


def _estimated(operator: Watched, limit: int, tol: float | None, seed: int, reporter: Reporter) -> Diagonal:
    method = DiagPlusPlus(operator, seed)
    method.grow(limit if tol is None else min(limit, FIRST))
    found = method.diagonal()
    while tol is not None:
        error, allowed = length(found.standard_error), tol * length(found.values)
        if error <= allowed:
            break
        reporter.report(f"{found.products} products, standard error {error:.2g} of {allowed:.2g}")
        more = more_products(found.products, operator.shape[0], limit, error / max(allowed, 1e-300))
        if more is None:
            return _exact(operator, found.products)
        if more == 0:
            return Diagonal(found.values, found.space, found.standard_error, products=found.products, converged=False)
        method.grow(more)
        found = method.diagonal()
    return found
