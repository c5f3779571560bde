"""The diagonal of an operator: exact where structure or size allow, else estimated and said so."""

from __future__ import annotations

import warnings

from quadric.core.errors import NotConverged
from quadric.linalg.diagpp import DiagPlusPlus
from quadric.linalg.limits import EXACT_BELOW
from quadric.linalg.repeatable import check_repeatable
from quadric.linalg.sampling import LEAST, check_budget, enlarged
from quadric.operators import queries
from quadric.operators.diagonal import Diagonal
from quadric.operators.operator import LinearOperator


def diagonal(
    operator: LinearOperator, *, products: int | None = None, tol: float | None = None, seed: int = 0
) -> Diagonal:
    """diag A as a diagonal operator: `.values`, `.standard_error`, `.exact`.

    In closed form where the structure has one; by n products for n ≤ 2,000; else by Diag++ with `products` products
    (default 99) and random signs from `seed`, unbiased, with a standard error for each entry. With `tol` instead,
    products are added until the standard errors, together as one vector, are at most `tol` of the diagonal's length, or
    as many as `products` (default 10,000) are spent, which gives a NotConverged warning. Raises ValueError for a
    rectangular operator, data that differ between readings, or fewer than 6 products.
    """
    operator.space  # noqa: B018 - raises where the operator is rectangular
    limit = check_budget(products, tol)
    check_repeatable(operator)

    def ask(part: LinearOperator) -> Diagonal:
        closed = queries.diagonal(part, ask)
        if closed is not None:
            return closed
        if part.shape[0] <= EXACT_BELOW:
            return Diagonal(part._dense().diagonal().clone(), part.space)
        return _estimated(part, limit, tol, seed)

    return ask(operator)


def _estimated(operator: LinearOperator, limit: int, tol: float | None, seed: int) -> Diagonal:
    method = DiagPlusPlus(operator, seed)
    method.grow(limit if tol is None else min(limit, 30))
    found = method.diagonal()
    while tol is not None:
        error, allowed = float(found.standard_error.double().norm()), tol * float(found.values.double().norm())
        if error <= allowed:
            break
        wanted = enlarged(method.products, error / max(allowed, 1e-300))
        more = min(limit - method.products, max(LEAST, wanted - method.products))
        if more < LEAST:
            warnings.warn(
                f"The diagonal has a standard error of {error:.2g} after {method.products} products, where "
                f"{allowed:.2g} was asked for: the products ran out.",
                NotConverged,
                stacklevel=4,
            )
            break
        method.grow(more)
        found = method.diagonal()
    return found
