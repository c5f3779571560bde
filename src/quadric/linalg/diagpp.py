"""Diag++: the diagonal by a low-rank part and Hutchinson's estimator of the rest."""

from __future__ import annotations

import torch

from quadric.linalg.probes import seeded, signs
from quadric.operators.diagonal import Diagonal
from quadric.operators.operator import LinearOperator


def diagpp(operator: LinearOperator, *, products: int = 100, seed: int = 0) -> Diagonal:
    """diag A = diag(Q Qᵀ A) + E ω ∘ (I − Q Qᵀ) A ω, with Q an orthonormal basis of A's products with random signs.

    A third of the `products` find Q, a third take Aᵀ Q, and a third are independent random signs ω: so the standard
    errors are those of plain means. Unbiased, for any square A.

    Cost: `products` products (at least 6), a third of them of Aᵀ, O(n·products²) operations, n·products numbers.
    References: Bekas, Kokiopoulou and Saad (2007); Baston and Nakatsukasa (2022), Stochastic diagonal estimation.
    """
    share, generator = max(2, products // 3), seeded(seed)
    basis, _ = torch.linalg.qr(operator @ signs(operator.space, min(share, operator.shape[0]), generator))
    inside = (basis * (operator.T @ basis)).sum(1)
    probes = signs(operator.space, share, generator)
    images = operator @ probes
    rest = probes * (images - basis @ (basis.T @ images))
    return Diagonal(inside + rest.mean(1), operator.space, rest.std(1) / share**0.5)
