"""The question that comes before an iterative algorithm: is the operator one and the same at each product?"""

from __future__ import annotations

from collections.abc import Iterator

from quadric.operators import queries
from quadric.operators.operator import LinearOperator


def check_repeatable(operator: LinearOperator) -> None:
    """Raise ValueError where a part of the operator reads data that differ from one reading to the next.

    Parts are asked once each, however often the operator holds them.
    """
    seen: set[int] = set()
    for part in _parts(operator, seen):
        problem = queries.irregularity(part)
        if problem is not None:
            raise ValueError(problem)


def _parts(operator: LinearOperator, seen: set[int]) -> Iterator[LinearOperator]:
    """The operator and all operators it is made of."""
    if id(operator) in seen:
        return
    seen.add(id(operator))
    yield operator
    for value in vars(operator).values():
        for inner in value if isinstance(value, (tuple, list)) else (value,):
            if isinstance(inner, LinearOperator):
                yield from _parts(inner, seen)
