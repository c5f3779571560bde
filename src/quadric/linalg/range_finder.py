"""The randomised range finder."""

from __future__ import annotations

import torch
from torch import Tensor

from quadric.linalg.probes import gaussian, seeded
from quadric.operators.operator import LinearOperator


def range_finder(operator: LinearOperator, size: int, *, iterations: int = 0, seed: int = 0) -> Tensor:
    """Q [m, size] with orthonormal columns, whose span nearly holds that of A: ‖A − Q Qᵀ A‖ is small.

    Q spans (A Aᵀ)^q A Ω for Gaussian Ω and q = `iterations`, orthonormalised at each product; more iterations help
    where the spectrum decays slowly. Cost: size·(1 + 2q) products. Raises ValueError where `size` is out of range.
    Reference: Halko, Martinsson and Tropp (2011), algorithms 4.1 and 4.4.
    """
    if not 1 <= size <= min(operator.shape):
        raise ValueError(f"Expected a size from 1 to {min(operator.shape)}, got {size}.")
    if iterations < 0:
        raise ValueError(f"Expected iterations ≥ 0, got {iterations}.")
    basis, _ = torch.linalg.qr(operator @ gaussian(operator.domain, size, seeded(seed)))
    for _ in range(iterations):
        back, _ = torch.linalg.qr(operator.T @ basis)
        basis, _ = torch.linalg.qr(operator @ back)
    return torch.as_tensor(basis)
