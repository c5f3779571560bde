"""Diag++: the diagonal by a low-rank part and Hutchinson's estimator of the rest."""

from __future__ import annotations

import torch

from quadric.linalg.orthonormal import orthonormal
from quadric.linalg.probes import seeded, signs
from quadric.operators.diagonal import Diagonal
from quadric.operators.operator import LinearOperator


class DiagPlusPlus:
    """diag A = diag(Q Qᵀ A) + E ω ∘ (I − Q Qᵀ) A ω, with Q an orthonormal basis of A's products with random signs.

    A third of the products find Q, a third take Aᵀ Q, and a third are independent random signs ω: so the standard
    errors are those of plain means. Unbiased, for any square A. More products enlarge Q and add probes; none is taken
    twice.

    Cost: a third of the products are of Aᵀ, O(n·products²) operations, n·products numbers.
    References: Bekas, Kokiopoulou and Saad (2007); Baston and Nakatsukasa (2022), Stochastic diagonal estimation.
    """

    def __init__(self, operator: LinearOperator, seed: int) -> None:
        self.operator = operator
        self.products = 0
        self._generator = seeded(seed)
        empty = torch.empty(operator.shape[0], 0, dtype=operator.dtype, device=operator.device)
        self._basis = self._images = self._probes = self._answers = empty

    def grow(self, products: int) -> None:
        """Take at most so many more products."""
        room = self.operator.shape[0] - self._basis.shape[1]
        share = max(2, products // 3)
        sketch = signs(self.operator.space, min(share, room), self._generator)
        if sketch.shape[1]:
            new = self.operator @ sketch
            new = orthonormal(new, self._basis, self._generator, self.operator.space)
            self._basis = torch.cat([self._basis, new], dim=1)
            self._images = torch.cat([self._images, self.operator.T @ new], dim=1)
        probes = signs(self.operator.space, share, self._generator)
        self._probes = torch.cat([self._probes, probes], dim=1)
        self._answers = torch.cat([self._answers, self.operator @ probes], dim=1)
        self.products += 2 * sketch.shape[1] + share

    def diagonal(self) -> Diagonal:
        """The diagonal so far, with a standard error for each entry."""
        inside = (self._basis * self._images).sum(1)
        rest = self._probes * (self._answers - self._basis @ (self._basis.T @ self._answers))
        error = rest.std(1) / rest.shape[1] ** 0.5
        return Diagonal(inside + rest.mean(1), self.operator.space, error, products=self.products)


def diagpp(operator: LinearOperator, *, products: int = 100, seed: int = 0) -> Diagonal:
    """diag A by `products` products (at least 6)."""
    method = DiagPlusPlus(operator, seed)
    method.grow(products)
    return method.diagonal()
