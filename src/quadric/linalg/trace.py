"""The trace of an operator: exact where structure or size allow, else estimated with a standard error."""

from __future__ import annotations

from quadric.linalg.hutchpp import hutchpp
from quadric.operators import queries
from quadric.operators.estimate import Estimate
from quadric.operators.operator import LinearOperator


def trace(operator: LinearOperator, *, products: int = 99, seed: int = 0) -> Estimate:
    """tr A: `.estimate` and `.standard_error`, zero where exact.

    In closed form where the structure has one; by n products where n is no more than `products`; else by Hutch++ with
    random signs from `seed`, unbiased. Raises ValueError for a rectangular operator, or fewer than 6 products.
    """
    operator.space  # noqa: B018 - raises where the operator is rectangular
    if products < 6:
        raise ValueError(f"Expected at least 6 products, got {products}.")

    def ask(part: LinearOperator) -> Estimate:
        closed = queries.trace(part, ask)
        if closed is not None:
            return closed
        if part.shape[0] <= products:
            return Estimate(float(part._dense().diagonal().double().sum()), 0.0, part.shape[0])
        return hutchpp(part, products=products, seed=seed)

    return ask(operator)
