"""Estimates by random probes, to a number of products or to a tolerance."""

from __future__ import annotations

import math
import warnings
from dataclasses import replace
from typing import Protocol

from quadric.core.errors import NotConverged
from quadric.core.progress import Reporter
from quadric.operators.estimate import Estimate
from quadric.operators.operator import LinearOperator

LEAST, USUAL, MOST = 6, 99, 10_000
"""Products: the fewest that give a standard error, how many without a tolerance, the most with one."""
GROWTH = 2.0


class Sampler(Protocol):
    """An estimator to which products can be added."""

    def __init__(self, operator: LinearOperator, seed: int) -> None: ...

    def grow(self, products: int) -> None:
        """Take so many more products."""

    def estimate(self) -> Estimate:
        """What they say so far."""


def check_budget(products: int | None, tol: float | None) -> int:
    """The most products to take; raises ValueError where there are too few, or the tolerance is out of range."""
    if products is not None and (isinstance(products, bool) or not isinstance(products, int) or products < LEAST):
        raise ValueError(f"Expected at least {LEAST} products, got {products!r}.")
    if tol is not None and not (isinstance(tol, float | int) and 0 < tol < 1):
        raise ValueError(f"Expected a tolerance between 0 and 1, relative to the estimate, got {tol!r}.")
    return products or (USUAL if tol is None else MOST)


def enlarged(count: int, excess: float) -> int:
    """How many samples to have next where the standard error of `count` is `excess` times too large.

    Standard errors fall as 1/√count; a tenth more is for luck, and at most twice as many for a poor first look.
    """
    return max(count + 1, math.ceil(count * min(GROWTH, 1.1 * excess**2)))


def sampled(sampler: Sampler, limit: int, tol: float | None, name: str, reporter: Reporter | None) -> Estimate:
    """Grow the sampler to `limit` products, or until its standard error is at most tol·|estimate|.

    The first look is after 30 products, so that the standard error itself is known to a fifth or so; at each look the
    products grow as the error asks, by a factor of 2 at most.
    """
    if tol is None:
        sampler.grow(limit)
        return sampler.estimate()
    sampler.grow(min(limit, 30))
    found = sampler.estimate()
    while True:
        allowed = tol * abs(found.estimate)
        if found.standard_error <= allowed:
            return found
        if reporter is not None:
            reporter.report(f"{found.products} products, standard error {found.standard_error:.2g} of {allowed:.2g}")
        wanted = enlarged(found.products, found.standard_error / max(allowed, 1e-300))
        more = min(limit - found.products, max(LEAST, wanted - found.products))
        if more < LEAST:
            break
        sampler.grow(more)
        found = sampler.estimate()
    warnings.warn(
        f"{name} has a standard error of {found.standard_error:.2g} after {found.products} products, where "
        f"{allowed:.2g} was asked for: the products ran out.",
        NotConverged,
        stacklevel=4,
    )
    return replace(found, converged=False)
