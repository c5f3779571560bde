"""Kronecker-factored approximate curvature."""

from __future__ import annotations

from typing import Any

from quadric.core.space import Space
from quadric.curvature.kronecker.factors import Factors
from quadric.curvature.kronecker.layers import Block
from quadric.curvature.kronecker.structure import KroneckerFactored, second_moment
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

    Linear, convolution and embedding layers have a Kronecker block, and so have the projections of attention to itself
    (query, key and value as one layer) and those that keep query, key and value apart (`kdim`, `vdim`; not the one
    bias of all three); norms have their exact block, everything else, packed projections of a query unlike its keys
    among it, the diagonal of its block, estimated without bias by random signs; `coverage` says which and why. Whether
    a layer's calls account for its whole gradient is checked, not assumed.

    Layers that share weights in the same role share a block, and their calls are places of one layer. An embedding
    tied to a linear layer [V, d] shares one as well: their factors are averaged apart, and diag(f) ⊗ B + B′ ⊗ A′ is
    replaced by the product of its `marginals`, d × d and V × V, which is what the layer takes untied. Curvature between
    the two uses is left out, as that between layers is.

    Exact for a linear model under squared error, and, block by block, for a single example whose weights act once.
    `inverse(KFAC(…), damping)` is in closed form. Cost: a forward pass, a backward pass for each r and the moments;
    then two small matrix products for each layer. Raises ValueError for losses that the chosen `fisher` can't take.
    Reference: Martens and Grosse (2015), Optimizing neural networks with Kronecker-factored approximate curvature;
    Grosse and Martens (2016) for convolutions; Eschenhagen et al. (2023) for expand and reduce.
    """

    def update(self, batch: Any, decay: float = 0.95) -> None:
        """Blend in a batch or several: the k-th last update counts decayᵏ in the factors, over the sum of all weights.

        A pass that was made already will do as well: its `Forward`, with what was `recorded` in it. From then on the
        operator is this running average, and follows the parameters only through further updates.
        Raises ValueError unless 0 ≤ decay < 1, and where layers are covered otherwise than before.
        """
        chosen, factors, _ = self._blend(batch, decay)
        self._built = self._assemble(chosen, factors)

    def _block(self, block: Block, factors: Factors, space: Space) -> LinearOperator:
        left, right = factors.pair(block)
        return Kronecker(Diagonal(left) if left.dim() == 1 else second_moment(left), second_moment(right), space)
