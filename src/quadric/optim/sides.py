"""A parameter as a tensor with sides: a matrix for each side makes a Kronecker product on the whole.

On X of shape [n₁, …, n_k], flattened row by row, M₁ ⊗ … ⊗ M_k is X ↦ X ×₁ M₁ … ×_k M_k; for a layer's weight [out, in]
it is M₁ X M₂ᵀ, as in `operators.Kronecker`. A side without a matrix has the identity.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

Sides = list[Tensor | None]
"""One matrix per side, None for the identity."""


def folded(shape: Sequence[int], max_dim: int) -> list[int]:
    """The shape in which a parameter has its sides.

    The first dimension, a layer's outputs, stays; of the others, from the last on, as many are merged as fit into
    `max_dim`. A convolution's weight [out, in, h, w] is [out, in·h·w], or [out, in, h·w] where that is too large.
    """
    sides = [n for n in shape if n > 1]
    if len(sides) <= 2:
        return sides or [1]
    first, *rest = sides
    merged = [rest[-1]]
    for n in reversed(rest[:-1]):
        if n * merged[0] <= max_dim:
            merged[0] *= n
        else:
            merged.insert(0, n)
    return [first, *merged]


def fold(g: Tensor, max_dim: int) -> Tensor:
    """A gradient in that shape, in at least float32."""
    return g.reshape(folded(g.shape, max_dim)).to(torch.promote_types(g.dtype, torch.float32))


def along(x: Tensor, matrices: Sides, *, transposed: bool = False) -> Tensor:
    """X ×₁ M₁ … ×_k M_k, or with their transposes. Cost: 2 · numel · n_i operations per side."""
    for i, m in enumerate(matrices):
        if m is None:
            continue
        unfolded = x.movedim(i, 0)
        product = (m.T if transposed else m) @ unfolded.reshape(unfolded.shape[0], -1)
        x = product.view(-1, *unfolded.shape[1:]).movedim(0, i)
    return x


def second_moment(x: Tensor, side: int) -> Tensor:
    """X₍ᵢ₎X₍ᵢ₎ᵀ, with X unfolded along one side: for a matrix G it is GGᵀ or GᵀG."""
    unfolded = x.movedim(side, 0).reshape(x.shape[side], -1)
    moment: Tensor = unfolded @ unfolded.T
    return moment


def eigenvectors(moment: Tensor) -> Tensor:
    """Orthonormal eigenvectors in columns, the largest eigenvalue first."""
    vectors: Tensor = torch.linalg.eigh(moment).eigenvectors
    return vectors.flip(1)


def power(moment: Tensor, exponent: float, eps: float) -> Tensor:
    """(M + ε λ_max I)^p of a positive semi-definite M; the identity where M is zero."""
    values: Tensor
    vectors: Tensor
    values, vectors = torch.linalg.eigh(moment)
    largest = float(values[-1])
    if not largest > 0 or not math.isfinite(largest):
        return torch.eye(len(values), dtype=moment.dtype, device=moment.device)
    scaled = (values.clamp(min=0) + eps * largest) ** exponent
    return (vectors * scaled) @ vectors.T


def check_max_dim(max_dim: int) -> None:
    """Raise ValueError unless it is an integer ≥ 0."""
    if isinstance(max_dim, bool) or not isinstance(max_dim, int) or max_dim < 0:
        raise ValueError(f"Expected max_dim to be an integer ≥ 0, got {max_dim!r}.")
