"""Whether an operator is one and the same at every product: asked before an iteration that takes it for one."""

from __future__ import annotations

from collections.abc import Iterator

from quadric.operators import queries
from quadric.operators.operator import LinearOperator


def settled(operator: LinearOperator) -> None:
    """Raise ValueError where a part of the operator answers the same question in two ways.

    That is the case of a curvature over a loader that yields other examples each time. Parts of sums, products,
    blocks, sub-matrices and inverses are asked too, each once in its life. Cost: two products with such a curvature.
    """
    for part in _parts(operator):
        queries.settle(part)


def _parts(operator: LinearOperator) -> Iterator[LinearOperator]:
    yield operator
    for value in vars(operator).values():
        for part in value if isinstance(value, tuple) else (value,):
            if isinstance(part, LinearOperator):
                yield from _parts(part)
