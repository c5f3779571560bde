"""Squares of per-example gradients, formed a few examples at a time."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

_CHUNK = 2**24
"""Numbers in the per-example gradients formed at a time."""


def example_squares(a: Tensor, g: Tensor, width: int, basis: Tensor | None = None) -> Tensor:
    """Σ_n (Σ_t g_nt a_ntᵀ)², entry by entry: [out, width], of a [N, T, width] and g [N, T, out].

    Integer a [N, T] stand for one-hot vectors. With a `basis` a is rotated by it first.
    """
    total = g.new_zeros(g.shape[2], width)
    size = max(1, _CHUNK // max(1, total.numel()))
    for a_part, g_part in zip(a.split(size), g.split(size), strict=True):
        inputs = a_part if a_part.is_floating_point() else F.one_hot(a_part, width).to(g.dtype)
        inputs = inputs if basis is None else inputs @ basis
        if a.shape[1] == 1:
            total.addmm_(g_part[:, 0].square().T, inputs[:, 0].square())
        else:
            total += (g_part.transpose(1, 2) @ inputs).square().sum(0)
    return total
