"""Estimates by random probes, to a number of products or to a tolerance."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from dataclasses import replace
from typing import Protocol

from quadric.core.errors import NotConverged
from quadric.core.progress import Reporter
from quadric.operators.estimate import Estimate
from quadric.operators.operator import LinearOperator

LEAST, USUAL, MOST = 6, 99, 10_000
"""Products: the fewest that give a standard error, how many without a tolerance, the most with one."""
FIRST = 30
"""Products before the first look at a tolerance, so that the standard error itself is known to a fifth or so."""
GROWTH = 2.0


class Sampler(Protocol):
    """An estimator to which products can be added."""

    operator: LinearOperator

    def __init__(self, operator: LinearOperator, seed: int) -> None: ...

    def grow(self, products: int) -> None:
        """Take so many more products."""

    def estimate(self) -> Estimate:
        """What they say so far."""


def check_budget(products: int | None, tol: float | None) -> int:
    """The most products to take; raises ValueError where there are too few, or the tolerance is out of range."""
    if products is not None and (isinstance(products, bool) or not isinstance(products, int) or products < LEAST):
        raise ValueError(f"Expected at least {LEAST} products, got {products!r}.")
    check_tolerance(tol)
    return products or (USUAL if tol is None else MOST)


def check_tolerance(tol: float | None) -> None:
    """Raise ValueError where a tolerance is out of range."""
    if tol is not None and not (isinstance(tol, float | int) and 0 < tol < 1):
        raise ValueError(f"Expected a tolerance between 0 and 1, relative to the estimate, got {tol!r}.")


def needed(count: int, excess: float) -> float:
    """How many samples it takes where the standard error of `count` is `excess` times too large.

    Standard errors fall as 1/√count; a tenth more is for luck.
    """
    return 1.1 * count * excess**2


def enlarged(count: int, excess: float) -> int:
    """How many samples to have next: those needed, but at most twice as many for a poor first look."""
    return max(count + 1, math.ceil(min(GROWTH * count, needed(count, excess))))


def at_once(n: int, limit: int, tol: float | None) -> bool:
    """Whether n products, which make an answer exact, are no more than would be taken anyway."""
    return n <= (limit if tol is None else min(limit, USUAL))


def more_products(taken: int, n: int, limit: int, excess: float) -> int | None:
    """How many products to add where the standard error is `excess` times too large: 0 where there is no room for more.

    None where the tolerance is expected to take more than n in all, but n, which make the answer exact, are allowed.
    """
    if needed(taken, excess) > n and taken + n <= limit:
        return None
    more = min(limit - taken, max(LEAST, enlarged(taken, excess) - taken))
    return more if more >= LEAST else 0


def sampled(
    sampler: Sampler,
    exact: Callable[[], float],
    limit: int,
    tol: float | None,
    reporter: Reporter,
) -> Estimate:
    """Grow the sampler to `limit` products, or until its standard error is at most tol·|estimate|; `converged` says so.

    At each look the products grow as the error asks, by a factor of 2 at most. Where that is expected to take more than
    n, the answer is `exact` by n instead, the operator's dimension.
    """
    if tol is None:
        sampler.grow(limit)
        return sampler.estimate()
    n = sampler.operator.shape[1]
    sampler.grow(min(limit, FIRST))
    found = sampler.estimate()
    while True:
        allowed = tol * abs(found.estimate)
        if found.standard_error <= allowed:
            return found
        reporter.report(f"{found.products} products, standard error {found.standard_error:.2g} of {allowed:.2g}")
        more = more_products(found.products, n, limit, found.standard_error / max(allowed, 1e-300))
        if more is None:
            return Estimate(exact(), 0.0, found.products + n)
        if more == 0:
            break
        sampler.grow(more)
        found = sampler.estimate()
    return replace(found, converged=False)


def ran_out(name: str, error: float, allowed: float, products: int) -> None:
    """Warn the caller's caller that a tolerance was not met."""
    warnings.warn(
        f"{name} has a standard error of {error:.2g} after {products} products, where {allowed:.2g} was asked for: the "
        "products ran out.",
        NotConverged,
        stacklevel=3,
    )
