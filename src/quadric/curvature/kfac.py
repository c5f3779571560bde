"""Kronecker-factored approximate curvature."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from quadric.core.space import Space
from quadric.curvature.kronecker.coverage import Coverage
from quadric.curvature.kronecker.factors import Factors, collect, empty
from quadric.curvature.kronecker.layers import Layer
from quadric.curvature.kronecker.structure import KroneckerFactored, second_moment
from quadric.operators.block_diagonal import BlockDiagonal
from quadric.operators.diagonal import Diagonal
from quadric.operators.kronecker import Kronecker
from quadric.operators.operator import LinearOperator


class KFAC(KroneckerFactored):
    """diag over layers of B ⊗ A on [W | b], B = Σ_n Σ_t g gᵀ, A = mean of a aᵀ: the GGN if a and g are independent.

    a is a layer's input with a 1 for its bias, g the gradient in its output along a vector r of H_ℓ = Σ r rᵀ; t runs
    over the places that share the weights (tokens, pixels, calls). `fisher="exact"` takes the exact H_ℓ, at one
    backward pass for each output of an example; "mc" `samples` draws from the model's likelihood, as `Fisher`;
    "empirical" per-example gradients, as `EmpiricalFisher`. `sharing="expand"` sums over places after the outer
    product, "reduce" before it (of the mean input and the summed gradient). B is averaged with the weights D_b, A over
    all places.

    Linear, convolution and embedding layers have a Kronecker block, norms their exact one, everything else the diagonal
    of its block, estimated without bias by random signs; `coverage` says which and why. Layers that share weights in
    the same role share a block. Whether a layer's calls account for its whole gradient is checked, not assumed.

    Exact for a linear model under squared error, and, block by block, for a single example whose weights act once.
    `inverse(KFAC(…), damping)` is in closed form. Cost: a forward pass, a backward pass for each r and the moments;
    then two small matrix products for each layer. Raises ValueError for losses that the chosen `fisher` can't take.
    Reference: Martens and Grosse (2015), Optimizing neural networks with Kronecker-factored approximate curvature;
    Grosse and Martens (2016) for convolutions; Eschenhagen et al. (2023) for expand and reduce.
    """

    _average: tuple[Factors, BlockDiagonal, Coverage] | None = None
    _updates = 0

    def update(self, batch: Any, decay: float = 0.95) -> None:
        """Blend in a batch or several: factors ← decay · factors + (1 − decay) · theirs, the first in full.

        From then on the operator is this running average, and follows the parameters only through further updates.
        Raises ValueError unless 0 ≤ decay < 1, and where layers are covered otherwise than before.
        """
        if not 0 <= decay < 1:
            raise ValueError(f"Expected a decay from 0 to below 1, got {decay}.")
        source = replace(self._source, seed=self.seed + self._updates)  # fresh draws for each update
        chosen, factors = collect(self.objective, batch, source, self.sharing)
        before = empty(self.space, chosen) if self._average is None else self._average[0]
        if factors.slopes.keys() != before.slopes.keys():
            raise ValueError("This batch uses other layers than those before it: start a new KFAC.")
        blended = before.blended(factors, decay)
        self._average = blended, *self._assemble(chosen, blended)
        self._updates += 1

    def _now(self) -> tuple[BlockDiagonal, Coverage]:
        return super()._now() if self._average is None else self._average[1:]

    def _block(self, layer: Layer, factors: Factors, space: Space) -> LinearOperator:
        slopes, inputs = second_moment(factors.slopes[layer].value), factors.inputs[layer].value
        if layer.kind == "embedding":
            return Kronecker(Diagonal(inputs), slopes, space)
        return Kronecker(slopes, second_moment(inputs), space)
