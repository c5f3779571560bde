"""The diagonal of an operator: exact where structure or size allow, else estimated and said so."""

from __future__ import annotations

from quadric.linalg.diagpp import diagpp
from quadric.linalg.limits import EXACT_BELOW
from quadric.operators import queries
from quadric.operators.diagonal import Diagonal
from quadric.operators.operator import LinearOperator


def diagonal(operator: LinearOperator, *, products: int = 99, seed: int = 0) -> Diagonal:
    """diag A as a diagonal operator: `.values`, `.standard_error`, `.exact`.

    In closed form where the structure has one; by n products for n ≤ 2,000; else by Diag++ with `products` products and
    random signs from `seed`, unbiased, with a standard error for each entry. Raises ValueError for a rectangular
    operator, or fewer than 6 products.
    """
    operator.space  # noqa: B018 - raises where the operator is rectangular
    if products < 6:
        raise ValueError(f"Expected at least 6 products, got {products}.")

    def ask(part: LinearOperator) -> Diagonal:
        closed = queries.diagonal(part, ask)
        if closed is not None:
            return closed
        if part.shape[0] <= EXACT_BELOW:
            return Diagonal(part._dense().diagonal().clone(), part.space)
        return diagpp(part, products=products, seed=seed)

    return ask(operator)
