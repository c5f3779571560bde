"""Hessians that are known by what they do to a vector."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from quadric.core.space import Space
from quadric.operators import LinearOperator


class Products(LinearOperator):
    """A symmetric operator given by its product with one vector."""

    symmetric = True

    def __init__(self, space: Space, product: Callable[[Tensor], Tensor]) -> None:
        super().__init__(space)
        self.product = product

    def _apply(self, x: Tensor) -> Tensor:
        return torch.stack([self.product(column) for column in x.unbind(1)], dim=1)

    def _transpose(self) -> LinearOperator:
        return self


class Differences(Products):
    """H v ≈ (∇f(x + h v/‖v‖) − ∇f(x)) ‖v‖ / h with h = √ε (1 + ‖x‖): for gradients that can't be differentiated.

    An approximation, to about half the digits. Cost: one gradient a product.
    """

    def __init__(self, space: Space, x: Tensor, gradient: Tensor, slope: Callable[[Tensor], Tensor]) -> None:
        h = torch.finfo(x.dtype).eps ** 0.5 * (1 + float(x.norm()))

        def product(v: Tensor) -> Tensor:
            norm = float(v.norm())
            return (slope(x + (h / norm) * v) - gradient) * (norm / h) if norm else torch.zeros_like(v)

        super().__init__(space, product)


class Counted(LinearOperator):
    """An operator on flat vectors that reports how many products are taken."""

    symmetric = True

    def __init__(self, inner: LinearOperator, count: Callable[[int], None]) -> None:
        super().__init__(Space.euclidean(inner.shape[0], inner.dtype, inner.device))
        self.inner = inner
        self.positive_semidefinite = inner.positive_semidefinite
        self._count = count

    def _apply(self, x: Tensor) -> Tensor:
        self._count(x.shape[1])
        return self.inner @ x

    def _transpose(self) -> LinearOperator:
        return self
