"""Hutchinson's estimator: traces from random signs."""

from __future__ import annotations

import torch
from torch import Tensor

from quadric.linalg.probes import seeded, signs
from quadric.operators.estimate import Estimate
from quadric.operators.operator import LinearOperator


class Hutchinson:
    """tr A = E ωᵀ A ω for random signs ω; more probes may be added. Unbiased, for any square A.

    The variance of one probe is 2 (‖S‖_F² − Σ S_ii²) with S the symmetric half of A. Cost: a product a probe.
    Reference: Hutchinson (1989); Girard (1989).
    """

    least = 2

    def __init__(self, operator: LinearOperator, seed: int) -> None:
        self.operator = operator
        self._generator = seeded(seed)
        self._samples = torch.empty(0, dtype=torch.float64)

    def grow(self, products: int) -> None:
        """Take so many more products."""
        probes = signs(self.operator.space, products, self._generator)
        self._samples = torch.cat([self._samples, _forms(probes, self.operator @ probes)])

    def estimate(self) -> Estimate:
        """The mean, with its standard error."""
        count = self._samples.numel()
        return Estimate(float(self._samples.mean()), float(self._samples.std() / count**0.5), count)


def _forms(x: Tensor, y: Tensor) -> Tensor:
    """xᵢᵀ yᵢ over the columns, summed in float64 on the CPU."""
    return (x.double() * y.double()).sum(0).cpu()
