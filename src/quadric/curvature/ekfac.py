"""Eigenvalue-corrected Kronecker-factored curvature."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from quadric.core.space import Space
from quadric.curvature.kronecker.factors import Factors
from quadric.curvature.kronecker.layers import Block, Plan, merged
from quadric.curvature.kronecker.passes import Slope, slopes
from quadric.curvature.kronecker.squares import example_squares
from quadric.curvature.kronecker.structure import KroneckerFactored
from quadric.operators.eigen_kronecker import EigenKronecker
from quadric.operators.operator import LinearOperator

Bases = dict[Block, tuple[Tensor, Tensor]]
"""The eigenvectors of each block's factors, of the rows of W and of its columns."""
Values = dict[Block, Tensor]
"""s of each block, shaped as [W | b]."""


class EKFAC(KroneckerFactored):
    """diag over layers of Q diag(s) Qᵀ, Q = Q_B ⊗ Q_A the eigenvectors of K-FAC's factors, s the diagonal of QᵀGQ.

    s is the second moment of the per-example gradients (Q_Bᵀ G_n Q_A)², which makes this the nearest matrix in the
    Frobenius norm to a layer's block of the GGN among those with these eigenvectors: never further than K-FAC. Options,
    blocks of other parameters and `coverage` are those of `KFAC`; `sharing` chooses the eigenvectors alone. G_n of a
    tied weight is the sum over both of its uses.

    Cost: that of K-FAC twice, an eigen-decomposition of each factor, and the rotated gradients; an embedding that is
    not tied keeps the identity [V, V] as its eigenvectors. Reference: George et al. (2018), Fast approximate natural
    gradient descent in a Kronecker-factored eigenbasis, algorithm 1.
    """

    _bases: Bases | None = None
    _values: Values | None = None

    def update(self, batch: Any, decay: float = 0.95, *, refresh: bool = True) -> None:
        """Blend in a batch or several: factors as `KFAC.update`, s ← decay · s + (1 − decay) · the batch's, the first
        in full.

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
        own = {block.positions[0]: (*basis, self._values[block]) for block, basis in self._bases.items()}
        return {**super().state(), "eigen": own}

    def _load_rest(self, chosen: Plan, state: dict[str, Any]) -> None:
        kept = {block: state["eigen"][block.positions[0]] for block in chosen.blocks if block.kind != "norm"}
        own = {block: [t.to(self.space.device, copy=True) for t in made] for block, made in kept.items()}
        self._bases = {block: (left, right) for block, (left, right, _) in own.items()}
        self._values = {block: values for block, (_, _, values) in own.items()}

    def _block(self, block: Block, factors: Factors, space: Space) -> LinearOperator:
        assert self._bases is not None
        assert self._values is not None
        return EigenKronecker(*self._bases[block], self._values[block], space)


class Squares:
    """Second moments of per-example gradients in the blocks' eigenvectors, as passes are seen."""

    def __init__(self, bases: Bases, dtype: torch.dtype) -> None:
        self.bases, self.dtype = bases, dtype
        self.totals: Values = {block: _zeros(left, right) for block, (left, right) in bases.items()}
        self.weight = 0.0

    def add(self, slope: Slope) -> None:
        """Take in one vector that was pushed back."""
        self.weight += slope.weight if slope.first else 0.0
        for block, (left, right) in self.bases.items():
            for a, g in merged(block, slope.calls, self.dtype):
                if block.kind == "embedding":
                    squares = example_squares(a, g @ right, left.shape[0]).T
                else:
                    squares = example_squares(a, g @ left, right.shape[0], right)
                self.totals[block] += slope.weight * squares

    def means(self) -> Values:
        """s of each block."""
        return {block: total / self.weight for block, total in self.totals.items()}


def _zeros(left: Tensor, right: Tensor) -> Tensor:
    return left.new_zeros(left.shape[0], right.shape[0])


def _eigen(chosen: Plan, factors: Factors) -> tuple[Bases, Values]:
    """Eigenvectors of each block's two factors, and K-FAC's eigenvalues."""
    bases, values = {}, {}
    for block in chosen.blocks:
        if block.kind == "norm":
            continue
        (of_left, left), (of_right, right) = (_decomposed(factor) for factor in factors.pair(block))
        bases[block] = left, right
        values[block] = torch.outer(of_left, of_right).clamp_(min=0)  # rounding alone makes a second moment negative
    return bases, values


def _decomposed(factor: Tensor) -> tuple[Tensor, Tensor]:
    """Eigenvalues and eigenvectors; the identity's of a diagonal."""
    if factor.dim() == 1:
        return factor, torch.eye(factor.numel(), dtype=factor.dtype, device=factor.device)
    values, vectors = torch.linalg.eigh(factor)
    return values, vectors
