"""Eigenvalue-corrected Kronecker-factored curvature."""

from __future__ import annotations

import torch
from torch import Tensor

from quadric.core.space import Space
from quadric.curvature.kronecker.factors import Factors
from quadric.curvature.kronecker.layers import Layer, Plan, merged
from quadric.curvature.kronecker.passes import slopes
from quadric.curvature.kronecker.squares import example_squares
from quadric.curvature.kronecker.structure import KroneckerFactored
from quadric.operators.eigen_kronecker import EigenKronecker
from quadric.operators.operator import LinearOperator


class EKFAC(KroneckerFactored):
    """diag over layers of Q diag(s) Qᵀ, Q = Q_B ⊗ Q_A the eigenvectors of K-FAC's factors, s the diagonal of QᵀGQ.

    s is the second moment of the per-example gradients (Q_Bᵀ G_n Q_A)², which makes this the nearest matrix in the
    Frobenius norm to a layer's block of the GGN among those with these eigenvectors: never further than K-FAC. Options,
    blocks of other parameters and `coverage` are those of `KFAC`; `sharing` chooses the eigenvectors alone.

    Cost: that of K-FAC twice, an eigen-decomposition of each factor, and the rotated gradients; an embedding keeps the
    identity [V, V] as its eigenvectors. Reference: George et al. (2018), Fast approximate natural gradient descent in a
    Kronecker-factored eigenbasis, algorithm 1.
    """

    def _prepare(self, chosen: Plan, factors: Factors) -> None:
        layers = [layer for layer in chosen.layers if layer.kind != "norm"]
        self._bases = {layer: _bases(layer, factors) for layer in layers}
        self._values: dict[Layer, Tensor] = {}
        weights = 0.0
        for slope in slopes(self.objective, self.data, chosen, self._source):
            weights += slope.weight if slope.first else 0.0
            for layer in layers:
                outs, ins = self._bases[layer]
                for a, g in merged(layer, slope.calls[layer], self.dtype):
                    basis = None if layer.kind == "embedding" else ins
                    part = slope.weight * example_squares(a, g @ outs, ins.shape[0], basis)
                    self._values[layer] = self._values[layer] + part if layer in self._values else part
        self._values = {layer: total / weights for layer, total in self._values.items()}

    def _block(self, layer: Layer, factors: Factors, space: Space) -> LinearOperator:
        outs, ins = self._bases[layer]
        zero = outs.new_zeros(outs.shape[0], ins.shape[0])
        values = self._values.get(layer, zero)
        if layer.kind == "embedding":
            return EigenKronecker(ins, outs, values.T.contiguous(), space)
        return EigenKronecker(outs, ins, values, space)


def _bases(layer: Layer, factors: Factors) -> tuple[Tensor, Tensor]:
    """Eigenvectors of the gradients' and of the inputs' moment."""
    inputs = factors.inputs[layer].value
    _, outs = torch.linalg.eigh(factors.slopes[layer].value)
    if layer.kind == "embedding":
        return outs, torch.eye(inputs.numel(), dtype=outs.dtype, device=outs.device)
    return outs, torch.linalg.eigh(inputs)[1]
