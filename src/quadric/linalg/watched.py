"""An operator whose products are told of while they are taken."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from quadric.core.progress import Reporter
from quadric.operators.algebra import Transposed
from quadric.operators.claims import inherit
from quadric.operators.operator import LinearOperator

AT_ONCE = 16
"""Columns between two reports. Few enough that long work shows, enough that reading the data again costs little."""


class Watched(LinearOperator):
    """The operator A, which takes many columns in parts and reports how many products that made, of `total` if known.

    Its transpose counts with it. The parts do not depend on whether anybody listens.
    """

    def __init__(self, operator: LinearOperator, reporter: Reporter, total: int | None = None) -> None:
        super().__init__(operator.domain, operator.codomain)
        inherit(self, operator)
        self.operator = operator
        self.products = 0
        self._reporter = reporter
        self._of = "" if total is None else f" of {total:,}"

    def columns(self) -> Iterator[tuple[int, Tensor]]:
        """All columns of A, in order: the index of the first of each part, and the part [m, k]."""
        n = self.shape[1]
        for first in range(0, n, AT_ONCE):
            count = min(AT_ONCE, n - first)
            some = torch.zeros(n, count, dtype=self.dtype, device=self.device)
            some[range(first, first + count), range(count)] = 1
            yield first, self._apply(some)

    def _apply(self, x: Tensor) -> Tensor:
        return self._told(self.operator, x)

    def _apply_transposed(self, x: Tensor) -> Tensor:
        return self._told(self.operator.T, x)

    def _transpose(self) -> LinearOperator:
        return Transposed(self)

    def _dense(self) -> Tensor:
        out = torch.empty(self.shape, dtype=self.dtype, device=self.device)
        for first, part in self.columns():
            out[:, first : first + part.shape[1]] = part
        return out

    def _told(self, operator: LinearOperator, x: Tensor) -> Tensor:
        parts = []
        for part in x.tensor_split(max(1, -(-x.shape[1] // AT_ONCE)), dim=1):
            parts.append(operator._apply(part))
            self.products += part.shape[1]
            self._reporter.report(f"{self.products:,}{self._of} products")
        return torch.cat(parts, dim=1)
