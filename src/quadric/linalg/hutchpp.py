"""Hutch++: the trace by a low-rank part and Hutchinson's estimator of the rest."""

from __future__ import annotations

import torch

from quadric.linalg.orthonormal import orthonormal
from quadric.linalg.probes import seeded, signs
from quadric.operators.estimate import Estimate
from quadric.operators.operator import LinearOperator


class HutchPlusPlus:
    """tr A = tr(Qᵀ A Q) + E ω̃ᵀ A ω̃, with Q an orthonormal basis of A's products with random signs and ω̃ = (I − Q Qᵀ) ω.

    A third of the products find Q, a third take A Q, and a third are independent random signs ω: so the standard error
    is that of a plain mean. Unbiased, for any square A. More products enlarge Q and add probes; since A ω and A Q are
    kept, none is taken twice.

    Cost: O(n·products²) operations, n·products numbers. Reference: Meyer, Musco, Musco and Woodruff (2021), Hutch++:
    optimal stochastic trace estimation.
    """

    least = 6

    def __init__(self, operator: LinearOperator, seed: int) -> None:
        self.operator = operator
        self._generator = seeded(seed)
        empty = torch.empty(operator.shape[0], 0, dtype=operator.dtype, device=operator.device)
        self._basis = self._images = self._probes = self._answers = empty
        self._sketching = 0

    def grow(self, products: int) -> None:
        """Take at most so many more products."""
        room = self.operator.shape[0] - self._basis.shape[1]
        share = max(2, products // 3)
        sketch = signs(self.operator.space, min(share, room), self._generator)
        if sketch.shape[1]:
            new = self.operator @ sketch
            self._sketching += sketch.shape[1]
            new = orthonormal(new, self._basis, self._generator, self.operator.space)
            self._basis = torch.cat([self._basis, new], dim=1)
            self._images = torch.cat([self._images, self.operator @ new], dim=1)
        probes = signs(self.operator.space, share, self._generator)
        self._probes = torch.cat([self._probes, probes], dim=1)
        self._answers = torch.cat([self._answers, self.operator @ probes], dim=1)

    def estimate(self) -> Estimate:
        """tr(QᵀAQ) and the mean of the rest, with its standard error."""
        inside = (self._basis * self._images).double().sum()
        shadow = self._basis.T @ self._probes
        outer = self._probes - self._basis @ shadow
        rest = (outer.double() * (self._answers - self._images @ shadow).double()).sum(0)
        count = rest.numel()
        products = self._sketching + self._images.shape[1] + count
        return Estimate(float(inside + rest.mean()), float(rest.std() / count**0.5), products)


def hutchpp(operator: LinearOperator, *, products: int = 100, seed: int = 0) -> Estimate:
    """tr A by `products` products (at least 6)."""
    method = HutchPlusPlus(operator, seed)
    method.grow(products)
    return method.estimate()
