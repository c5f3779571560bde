"""Damping that keeps a Kronecker product one: an approximation, and so a function of its own name."""

from __future__ import annotations

import math

from quadric.operators.block_diagonal import BlockDiagonal
from quadric.operators.dense import Dense
from quadric.operators.identity import identity_like
from quadric.operators.kronecker import Kronecker
from quadric.operators.operator import LinearOperator


def factored_damping(operator: LinearOperator, damping: float) -> LinearOperator:
    """(A + π√λ I) ⊗ (B + √λ/π I) ≈ A ⊗ B + λI with π² = (tr A / dim A) / (tr B / dim B).

    For Kronecker products, and block by block for block-diagonal operators; any other operator gets λI exactly. The
    inverse then costs two Cholesky factorisations in place of two eigen-decompositions. Raises ValueError for negative
    damping. Reference: Martens and Grosse (2015), Optimizing neural networks with Kronecker-factored approximate
    curvature, section 6.3.
    """
    if not (damping >= 0 and math.isfinite(damping)):
        raise ValueError(f"Expected a finite damping ≥ 0, got {damping}.")
    if isinstance(operator, BlockDiagonal):
        return operator.map(lambda block: factored_damping(block, damping))
    if not isinstance(operator, Kronecker):
        return operator + damping * identity_like(operator)
    left, right = operator.left._dense(), operator.right._dense()
    mean_a, mean_b = float(left.diagonal().mean()), float(right.diagonal().mean())
    pi = math.sqrt(mean_a / mean_b) if mean_a > 0 and mean_b > 0 else 1.0
    left.diagonal().add_(pi * math.sqrt(damping))
    right.diagonal().add_(math.sqrt(damping) / pi)
    a, b = (Dense(m, symmetric=f.symmetric) for m, f in ((left, operator.left), (right, operator.right)))
    return Kronecker(a, b, operator.domain)
