"""Randomised block Krylov iteration: the dominant eigenpairs of a symmetric operator."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from quadric.linalg.orthonormal import orthonormal
from quadric.linalg.probes import gaussian, seeded
from quadric.operators.operator import LinearOperator

OVERSAMPLING = 5


@dataclass(frozen=True)
class Dominant:
    """Ritz `values` [k] of largest magnitude and their `vectors` [n, k]; `converged` by what one more block gained."""

    values: Tensor
    vectors: Tensor
    converged: bool
    products: int


def block_krylov(
    operator: LinearOperator, count: int, *, gain: float = 0.005, max_blocks: int = 30, seed: int = 0
) -> Dominant:
    """The `count` eigenpairs of largest magnitude, good enough for a best approximation of that rank.

    Blocks of count + 5 vectors are orthogonalised against all before (so multiplicities are right), and added until the
    last has raised Σθ² over the `count` largest Ritz values by less than `gain` times what is known to be outside them.

    Cost: (count + 5)·blocks products and numbers·n. Reference: Musco and Musco (2015), Randomized block Krylov methods
    for stronger and faster approximate singular value decomposition.
    """
    n, eps = operator.shape[0], torch.finfo(operator.dtype).eps
    generator = seeded(seed)
    size = min(count + OVERSAMPLING, n)
    basis = images = torch.empty(n, 0, dtype=operator.dtype, device=operator.device)
    block = gaussian(operator.space, size, generator)
    values, rotation, captured = torch.empty(0), torch.empty(0), 0.0
    converged = False
    for _ in range(max_blocks):
        block = orthonormal(block, basis, generator, operator.space)
        basis = torch.cat([basis, block], dim=1)
        images = torch.cat([images, operator @ block], dim=1)
        small = (basis.T @ images).double()
        theta, vectors = torch.linalg.eigh((small + small.T) / 2)
        order = theta.abs().argsort(descending=True)[:count]
        values, rotation = theta[order], vectors[:, order]
        total, before = float(images.double().square().sum()), captured
        captured = float(values.square().sum())
        gained = captured - before
        # after the first block there is nothing to compare with
        settled = gained <= gain * (total - captured) + 8 * eps * total
        if basis.shape[1] == n or total == 0.0 or (before > 0 and settled):
            converged = True
            break
        block = images[:, -block.shape[1] :]
    return Dominant(values.to(basis.dtype), basis @ rotation.to(basis.dtype), converged, basis.shape[1])
