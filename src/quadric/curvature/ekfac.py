"""Eigenvalue-corrected Kronecker-factored curvature."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from quadric.core.space import Space
from quadric.curvature.kronecker.factors import Factors
from quadric.curvature.kronecker.layers import Layer, Plan, merged
from quadric.curvature.kronecker.passes import Slope, slopes
from quadric.curvature.kronecker.squares import example_squares
from quadric.curvature.kronecker.structure import KroneckerFactored
from quadric.operators.eigen_kronecker import EigenKronecker
from quadric.operators.operator import LinearOperator

Bases = dict[Layer, tuple[Tensor, Tensor]]
"""Q_B [out, out] and Q_A [in, in] of each layer."""
Values = dict[Layer, Tensor]
"""s [out, in] of each layer."""


class EKFAC(KroneckerFactored):
    """diag over layers of Q diag(s) Qᵀ, Q = Q_B ⊗ Q_A the eigenvectors of K-FAC's factors, s the diagonal of QᵀGQ.

    s is the second moment of the per-example gradients (Q_Bᵀ G_n Q_A)², which makes this the nearest matrix in the
    Frobenius norm to a layer's block of the GGN among those with these eigenvectors: never further than K-FAC. Options,
    blocks of other parameters and `coverage` are those of `KFAC`; `sharing` chooses the eigenvectors alone.

    Cost: that of K-FAC twice, an eigen-decomposition of each factor, and the rotated gradients; an embedding keeps the
    identity [V, V] as its eigenvectors. Reference: George et al. (2018), Fast approximate natural gradient descent in a
    Kronecker-factored eigenbasis, algorithm 1.
    """

    _bases: Bases | None = None
    _values: Values | None = None

    def update(self, batch: Any, decay: float = 0.95, *, refresh: bool = True) -> None:
        """Blend in a batch or several: factors and s ← decay · theirs before + (1 − decay) · the batch's, the first in
        full.

        With `refresh` the eigenvectors become those of the new factors, in which s begins as K-FAC's eigenvalues;
        without it they are kept, and factors and s come from one pass. Otherwise as `KFAC.update`.
        """
        if refresh or self._bases is None or self._values is None:
            first = self._average is None
            chosen, factors, source = self._blend(batch, decay)
            self._bases, eigenvalues = _eigen(chosen, factors)
            squares = Squares(self._bases, self.dtype)
            for slope in slopes(self.objective, batch, chosen, source):
                squares.add(slope)
            before = None if first else eigenvalues
        else:
            squares, before = Squares(self._bases, self.dtype), self._values
            chosen, factors, _ = self._blend(batch, decay, squares.add)
        new = squares.means()
        self._values = new if before is None else {k: before[k].lerp(new[k], 1 - decay) for k in new}
        self._built = self._assemble(chosen, factors)

    def _prepare(self, chosen: Plan, factors: Factors) -> None:
        self._bases, _ = _eigen(chosen, factors)
        squares = Squares(self._bases, self.dtype)
        for slope in slopes(self.objective, self.data, chosen, self._source):
            squares.add(slope)
        self._values = squares.means()

    def state(self) -> dict[str, Any]:
        """As `KFAC`'s, with the eigenvectors and s."""
        if self._bases is None or self._values is None or self._average is None:
            return {}
        own = {layer.positions[0]: (*basis, self._values[layer]) for layer, basis in self._bases.items()}
        return {**super().state(), "eigen": own}

    def _load_rest(self, chosen: Plan, state: dict[str, Any]) -> None:
        kept = {layer: state["eigen"][layer.positions[0]] for layer in chosen.layers if layer.kind != "norm"}
        own = {layer: [t.to(self.space.device, copy=True) for t in made] for layer, made in kept.items()}
        self._bases = {layer: (outs, ins) for layer, (outs, ins, _) in own.items()}
        self._values = {layer: values for layer, (_, _, values) in own.items()}

    def _block(self, layer: Layer, factors: Factors, space: Space) -> LinearOperator:
        assert self._bases is not None
        assert self._values is not None
        (outs, ins), values = self._bases[layer], self._values[layer]
        if layer.kind == "embedding":
            return EigenKronecker(ins, outs, values.T.contiguous(), space)
        return EigenKronecker(outs, ins, values, space)


class Squares:
    """Second moments of per-example gradients in the layers' eigenvectors, as passes are seen."""

    def __init__(self, bases: Bases, dtype: torch.dtype) -> None:
        self.bases, self.dtype = bases, dtype
        self.totals: Values = {layer: _zeros(outs, ins) for layer, (outs, ins) in bases.items()}
        self.weight = 0.0

    def add(self, slope: Slope) -> None:
        """Take in one vector that was pushed back."""
        self.weight += slope.weight if slope.first else 0.0
        for layer, (outs, ins) in self.bases.items():
            for a, g in merged(layer, slope.calls[layer], self.dtype):
                basis = None if layer.kind == "embedding" else ins
                self.totals[layer] += slope.weight * example_squares(a, g @ outs, ins.shape[0], basis)

    def means(self) -> Values:
        """s of each layer, [out, in]."""
        return {layer: total / self.weight for layer, total in self.totals.items()}


def _zeros(outs: Tensor, ins: Tensor) -> Tensor:
    return outs.new_zeros(outs.shape[0], ins.shape[0])


def _eigen(chosen: Plan, factors: Factors) -> tuple[Bases, Values]:
    """Eigenvectors of the gradients' and of the inputs' moment of each layer, and K-FAC's eigenvalues."""
    bases, values = {}, {}
    for layer in chosen.layers:
        if layer.kind == "norm":
            continue
        inputs = factors.inputs[layer].value
        of_outs, outs = torch.linalg.eigh(factors.slopes[layer].value)
        if layer.kind == "embedding":
            of_ins, ins = inputs, torch.eye(inputs.numel(), dtype=outs.dtype, device=outs.device)
        else:
            of_ins, ins = torch.linalg.eigh(inputs)
        bases[layer] = outs, ins
        values[layer] = torch.outer(of_outs, of_ins).clamp_(min=0)  # rounding alone makes a second moment negative
    return bases, values
