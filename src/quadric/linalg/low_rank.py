"""Low-rank approximations of symmetric operators."""

from __future__ import annotations

import math
import warnings

import torch
from torch import Tensor

from quadric.core.errors import NotConverged, unknown_name
from quadric.linalg.block_krylov import OVERSAMPLING, block_krylov
from quadric.linalg.nystrom import nystrom
from quadric.linalg.probes import gaussian, seeded
from quadric.linalg.range_finder import range_finder
from quadric.linalg.repeatable import check_repeatable
from quadric.operators.estimate import Estimate
from quadric.operators.low_rank import LowRank
from quadric.operators.operator import LinearOperator

METHODS = ("lanczos", "randomized", "nystrom")
PROBES = 10
"""Products that the estimate of the error takes."""


def low_rank(operator: LinearOperator, rank: int, method: str = "lanczos", *, seed: int = 0) -> LowRank:
    """U Λ Uᵀ ≈ A of the given rank, with orthonormal U [n, rank] and Λ in descending magnitude.

    Methods: "lanczos" is block Krylov iteration, near-optimal (its Frobenius error within 5 % of the best of that
    rank), and warns (NotConverged) where it could not say so; "randomized" is the range finder with one power
    iteration, in 4 (rank + 5) products; "nystrom" takes rank + 5 products of a positive semi-definite A. `.error` of
    the result estimates ‖A − U Λ Uᵀ‖_F by 10 further products, with its standard error.

    Raises ValueError where A is not known to be symmetric, the rank is not between 1 and n, or A changes between
    products.
    """
    n = operator.space.numel
    if method not in METHODS:
        raise unknown_name("method", method, METHODS)
    if isinstance(rank, bool) or not isinstance(rank, int) or not 1 <= rank <= n:
        raise ValueError(f"Expected a rank from 1 to {n}, got {rank!r}.")
    if not operator.symmetric:
        raise ValueError(
            f"low_rank takes a symmetric operator, and this {type(operator).__name__} of shape {operator.shape} is not "
            "known to be one. If you know that it is, say so with claim_symmetric(operator)."
        )
    check_repeatable(operator)
    if method == "lanczos":
        found = block_krylov(operator, rank, seed=seed)
        vectors, values, products = found.vectors, found.values, found.products
        if not found.converged:
            warnings.warn(
                f"The low-rank approximation may be worse than near-optimal: {products} products did not settle it; "
                "its error estimate holds all the same.",
                NotConverged,
                stacklevel=2,
            )
    else:
        size = min(rank + OVERSAMPLING, n)
        if method == "nystrom":
            vectors, values = nystrom(operator, size, seed=seed)
            products = size
        else:
            vectors, values = _projected(operator, range_finder(operator, size, iterations=1, seed=seed))
            products = 4 * size
        vectors, values = vectors[:, :rank], values[:rank]
    return LowRank(vectors, values, operator.space, _error(operator, vectors, values, products, seed))


def _projected(operator: LinearOperator, basis: Tensor) -> tuple[Tensor, Tensor]:
    """Eigenpairs of Q QᵀA Q Qᵀ, in descending magnitude."""
    small = basis.T @ (operator @ basis)
    values, vectors = torch.linalg.eigh((small + small.T) / 2)
    order = values.abs().argsort(descending=True)
    return basis @ vectors[:, order], values[order]


def _error(operator: LinearOperator, vectors: Tensor, values: Tensor, products: int, seed: int) -> Estimate:
    """‖A − U Λ Uᵀ‖_F from E‖(A − U Λ Uᵀ) ω‖² with new Gaussian ω; the standard error to first order."""
    probes = gaussian(operator.space, PROBES, seeded(seed + 1))
    left = operator @ probes - vectors @ (values.unsqueeze(1) * (vectors.T @ probes))
    squares = left.double().square().sum(0)
    mean, spread = float(squares.mean()), float(squares.std()) / math.sqrt(PROBES)
    error = math.sqrt(mean)
    return Estimate(error, spread / (2 * error) if error else 0.0, products + PROBES)
