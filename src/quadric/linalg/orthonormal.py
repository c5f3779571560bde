"""Enlarging an orthonormal basis by a block of vectors, whatever their rank."""

from __future__ import annotations

import torch
from torch import Tensor

from quadric.core.space import Space
from quadric.linalg.probes import gaussian


def orthonormal(block: Tensor, basis: Tensor, generator: torch.Generator, space: Space) -> Tensor:
    """Orthonormal vectors of the block's span outside that of the basis; random ones stand in for what was lost."""
    room = space.numel - basis.shape[1]
    block = block[:, : min(block.shape[1], room)]
    block = block / block.norm(dim=0).clamp_min(torch.finfo(block.dtype).tiny)
    for _ in range(2):
        block = block - basis @ (basis.T @ block)
        block, triangle = torch.linalg.qr(block)
        lost = triangle.diagonal().abs() <= 100 * torch.finfo(block.dtype).eps
        if bool(lost.any()):
            block = block.clone()
            block[:, lost] = gaussian(space, int(lost.sum()), generator)
            block = block - basis @ (basis.T @ block)
            block, _ = torch.linalg.qr(block)
    block = block - basis @ (basis.T @ block)
    block, _ = torch.linalg.qr(block)
    return block
