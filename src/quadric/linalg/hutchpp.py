"""Hutch++: the trace by a low-rank part and Hutchinson's estimator of the rest."""

from __future__ import annotations

import torch

from quadric.linalg.probes import seeded, signs
from quadric.operators.estimate import Estimate
from quadric.operators.operator import LinearOperator


def hutchpp(operator: LinearOperator, *, products: int = 100, seed: int = 0) -> Estimate:
    """tr A = tr(Qᵀ A Q) + E ω̃ᵀ A ω̃, with Q an orthonormal basis of A's products with random signs and ω̃ = (I − Q Qᵀ) ω.

    A third of the `products` find Q, a third take A Q, and a third are independent random signs ω: so the standard
    error is that of a plain mean, which XTrace's exchangeable estimates can't say. Unbiased, for any square A.

    Cost: `products` products (at least 6), O(n·products²) operations, n·products numbers. Reference: Meyer, Musco,
    Musco and Woodruff (2021), Hutch++: optimal stochastic trace estimation.
    """
    share, generator = max(2, products // 3), seeded(seed)
    basis, _ = torch.linalg.qr(operator @ signs(operator.space, min(share, operator.shape[0]), generator))
    inside = (basis * (operator @ basis)).double().sum()
    probes = signs(operator.space, share, generator)
    probes = probes - basis @ (basis.T @ probes)
    rest = (probes * (operator @ probes)).double().sum(0)
    return Estimate(float(inside + rest.mean()), float(rest.std() / share**0.5), 2 * basis.shape[1] + share)
