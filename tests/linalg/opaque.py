"""Operators that hide their structure, so that the general way is taken."""

import torch

from quadric.operators import Diagonal, LinearOperator, LowRank

F64 = torch.float64


class Opaque(LinearOperator):
    """An operator of which nothing is known but its products and its claims; it counts their columns."""

    def __init__(self, inner):
        super().__init__(inner.domain, inner.codomain)
        self.inner, self.columns = inner, 0
        self.symmetric, self.positive_semidefinite = inner.symmetric, inner.positive_semidefinite

    def _apply(self, x):
        self.columns += x.shape[1]
        return self.inner._apply(x)

    def _transpose(self):
        return Opaque(self.inner.T)


def large(values, n, seed=1):
    """Orthonormal vectors times `values`, plus a diagonal from 1 to 2, as an opaque operator; and its parts."""
    generator = torch.Generator().manual_seed(seed)
    vectors = torch.linalg.qr(torch.randn(n, len(values), generator=generator, dtype=F64))[0]
    low, diagonal = LowRank(vectors, torch.as_tensor(values, dtype=F64)), torch.linspace(1, 2, n, dtype=F64)
    return Opaque(low + Diagonal(diagonal)), low, diagonal
