"""The identity."""

from __future__ import annotations

from torch import Tensor

from quadric.operators.operator import LinearOperator


class Identity(LinearOperator):
    """I on a space."""

    symmetric = True
    positive_semidefinite = True

    def _apply(self, x: Tensor) -> Tensor:
        return x.clone()

    def _transpose(self) -> LinearOperator:
        return self


def identity_like(operator: LinearOperator) -> Identity:
    """The identity on the space of a square operator. Raises ValueError for a rectangular one."""
    return Identity(operator.space)
