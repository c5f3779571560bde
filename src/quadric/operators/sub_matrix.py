"""A sub-matrix of an operator, by products with vectors that are zero elsewhere."""

from __future__ import annotations

import torch
from torch import Tensor

from quadric.operators import queries
from quadric.operators.claims import inherit
from quadric.operators.operator import LinearOperator
from quadric.operators.selection import Selection, Wanted, select


class SubMatrix(LinearOperator):
    """A[I, J]: rows I of the codomain, columns J of the domain. Cost of a product: one of A."""

    def __init__(self, operator: LinearOperator, rows: Selection, columns: Selection) -> None:
        super().__init__(columns.space, rows.space)
        self.operator = operator
        self.rows = rows
        self.columns = columns
        if rows is columns or (self.shape[0] == self.shape[1] and rows.same_as(columns)):
            inherit(self, operator)

    def _apply(self, x: Tensor) -> Tensor:
        return self.rows.take(self.operator._apply(self.columns.put(x, self.operator.shape[1])))

    def _transpose(self) -> LinearOperator:
        return SubMatrix(self.operator.T, self.columns, self.rows)

    def _dense(self) -> Tensor:
        """By unit vectors, a few million numbers at a time: never the whole of A."""
        size = max(1, 2**22 // max(self.operator.shape))
        eye = torch.eye(self.shape[1], dtype=self.dtype, device=self.device)
        return torch.cat([self._apply(part) for part in torch.split(eye, size, dim=1)], dim=1)


def principal(operator: LinearOperator, selection: Selection) -> LinearOperator:
    """A[I, I], in closed form where the structure gives one."""
    closed = queries.restrict(operator, selection)
    return SubMatrix(operator, selection, selection) if closed is None else closed


def sub_matrix(operator: LinearOperator, rows: Wanted, columns: Wanted | None = None) -> LinearOperator:
    """A[I, J] as an operator that keeps the names, shapes and layers of the tensors it takes.

    `rows` and `columns` are names of tensors, integer indices of the flat vector, or a slice of it; without `columns`
    they are the rows (of a square operator). Raises ValueError for names or indices that A's spaces don't have. Cost of
    a product: one of A, less where the structure gives it.
    """
    if columns is None:
        return principal(operator, select(operator.space, rows))
    return SubMatrix(operator, select(operator.codomain, rows), select(operator.domain, columns))
