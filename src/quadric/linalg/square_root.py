"""Square roots of positive definite operators, and samples of normal distributions."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from quadric.linalg.limits import EXACT_BELOW
from quadric.linalg.probes import gaussian
from quadric.linalg.shifted import check_damping, shifted
from quadric.operators import queries
from quadric.operators.definiteness import NotPositiveDefinite
from quadric.operators.dense import Dense, cholesky_of
from quadric.operators.identity import Identity
from quadric.operators.operator import LinearOperator


def square_root(operator: LinearOperator, damping: float = 0.0) -> LinearOperator:
    """S with S Sᵀ = C + λI, which must be positive definite; S need not be symmetric.

    In closed form where the structure gives one (dense, diagonal, blocks, low rank, Kronecker, and their inverses), by
    Cholesky for n ≤ 2,000. Raises NotPositiveDefinite as `inverse` does, and ValueError for a large operator without a
    structure, or one that is not symmetric.
    """
    operator.space  # noqa: B018 - raises where the operator is rectangular
    check_damping(damping)

    def without_structure(part: LinearOperator, shift: float) -> LinearOperator:
        if part.shape[0] > EXACT_BELOW:
            raise ValueError(
                f"The structure of this {type(part).__name__} of dimension {part.shape[0]} gives no square root, and "
                f"above {EXACT_BELOW} none is computed; take one of an approximation: low_rank, block_diagonal, "
                "diagonal or a Kronecker product."
            )
        return Dense(cholesky_of(part, part._dense(), shift, "square_root"), part.space)

    def ask(part: LinearOperator, shift: float) -> LinearOperator:
        form = shifted(part, shift)
        if form.base is None:
            return math.sqrt(form.factor) * Identity(part.space)
        with form.findings():
            closed = queries.square_root(form.base, form.shift, ask)
        if closed is None:
            return without_structure(part, shift)
        return closed if form.factor == 1 else math.sqrt(form.factor) * closed

    try:
        return ask(operator, damping)
    except NotPositiveDefinite as found:
        raise found.explained(damping) from None


def sample_normal(covariance: LinearOperator, count: int | None = None, *, generator: torch.Generator) -> Tensor:
    """A sample [n], or `count` of them [n, count], of N(0, Σ): S ω with S the square root of Σ and ω of N(0, I).

    For Laplace approximations Σ is `inverse(C, damping)`. `generator` is one of the CPU. Raises as `square_root` does.
    """
    if count is not None and count < 1:
        raise ValueError(f"Expected a count of at least 1, got {count}.")
    samples = square_root(covariance) @ gaussian(covariance.space, count or 1, generator)
    return samples if count is not None else samples.squeeze(1)
