"""An operator with the user's word for what the table of claims can't know."""

from __future__ import annotations

from torch import Tensor

from quadric.operators.operator import LinearOperator


class Claimed(LinearOperator):
    """A square operator that the user knows to be symmetric; nothing is checked."""

    symmetric = True

    def __init__(self, operator: LinearOperator, positive_semidefinite: bool = False) -> None:
        super().__init__(operator.space)
        self.operator = operator
        self.positive_semidefinite = positive_semidefinite or operator.positive_semidefinite

    def _apply(self, x: Tensor) -> Tensor:
        return self.operator._apply(x)

    def _transpose(self) -> LinearOperator:
        return self

    def _dense(self) -> Tensor:
        return self.operator._dense()


def claim_symmetric(operator: LinearOperator, *, positive_semidefinite: bool = False) -> LinearOperator:
    """`operator`, taken to be symmetric (and positive semi-definite), as in `claim_symmetric(J.T @ J)`.

    Raises ValueError for a rectangular operator. Claims that are false lead to wrong answers.
    """
    return Claimed(operator, positive_semidefinite)
