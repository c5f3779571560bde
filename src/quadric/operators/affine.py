"""Operators seen as c B + s I: sums, multiples and transposes taken apart as far as they go."""

from __future__ import annotations

from dataclasses import dataclass

from quadric.operators.algebra import Scaled, Sum
from quadric.operators.identity import Identity
from quadric.operators.operator import LinearOperator
from quadric.operators.zero import Zero


@dataclass(frozen=True)
class Affine:
    """factor · base + shift · I; `base` is None where the operator is a multiple of the identity."""

    factor: float
    base: LinearOperator | None
    shift: float


def take_apart(operator: LinearOperator) -> Affine:
    """The operator as c B + s I, with s the sum of all multiples of the identity in it."""
    if isinstance(operator, Identity):
        return Affine(1.0, None, 1.0)
    if isinstance(operator, Zero) and operator.domain is operator.codomain:
        return Affine(1.0, None, 0.0)
    if isinstance(operator, Scaled):
        inner = take_apart(operator.operator)
        factor = operator.factor * inner.factor
        return Affine(factor, inner.base if factor != 0 else None, operator.factor * inner.shift)
    if isinstance(operator, Sum):
        left, right = take_apart(operator.left), take_apart(operator.right)
        if left.base is None:
            return Affine(right.factor, right.base, left.shift + right.shift)
        if right.base is None:
            return Affine(left.factor, left.base, left.shift + right.shift)
    return Affine(1.0, operator, 0.0)
