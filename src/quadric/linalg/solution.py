"""What a solver of linear systems hands back, and the warning when it is not what was asked."""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass

import torch
from torch import Tensor

from quadric.core.errors import NotConverged
from quadric.linalg.settled import settled
from quadric.operators.operator import LinearOperator


@dataclass(frozen=True)
class Solution:
    """x with A x ≈ b, and how far to trust it.

    `residual` is ‖b − A x‖ / ‖b‖ as measured by a product at the end (of least squares: ‖Aᵀr‖ / (‖A‖ ‖r‖) where that is
    what converged), the largest over the columns of b. `negative_curvature` is a unit vector d with dᵀA d ≤ 0 where one
    was met. `reason` says in words why the iteration ended.
    """

    solution: Tensor
    converged: bool
    iterations: int
    products: int
    residual: float
    reason: str
    negative_curvature: Tensor | None = None

    def warn(self, name: str) -> Solution:
        """The same solution, after a NotConverged warning where it did not converge."""
        if not self.converged:
            warnings.warn(
                f"{name} stopped after {self.iterations} iterations at a relative residual of {self.residual:.2g}: "
                f"{self.reason}.",
                NotConverged,
                stacklevel=3,
            )
        return self


def check_system(operator: LinearOperator, b: Tensor, tol: float, *, symmetric: str | None = None) -> None:
    """Raise unless b fits the rows of A, the tolerance is a share of ‖b‖, and A is symmetric where `symmetric` names
    the algorithm that needs it; and where A changes from product to product."""
    operator.codomain.check(b)
    settled(operator)
    if not bool(torch.isfinite(b).all()):
        raise ValueError("Expected a right-hand side of finite numbers, got NaN or infinity.")
    if not (isinstance(tol, float | int) and 0 < tol < 1 and math.isfinite(tol)):
        raise ValueError(f"Expected a relative tolerance between 0 and 1, got {tol!r}.")
    if symmetric is not None and not operator.symmetric:
        raise ValueError(
            f"{symmetric} needs a symmetric operator, and this {type(operator).__name__} of shape {operator.shape} is "
            "not known to be one. If you know that it is, say so with claim_symmetric(operator); else use lsmr."
        )


def joined(parts: list[Solution], b: Tensor, n: int) -> Solution:
    """The solutions x [n] of the columns of b as one: the worst residual, the first reason for failing."""
    if b.dim() == 1:
        return parts[0]
    if not parts:
        return Solution(b.new_zeros(n, 0), True, 0, 0, 0.0, "there is nothing to solve")
    worst = next((part for part in parts if not part.converged), max(parts, key=lambda part: part.residual))
    directions = (part.negative_curvature for part in parts if part.negative_curvature is not None)
    return Solution(
        torch.stack([part.solution for part in parts], dim=1),
        all(part.converged for part in parts),
        max(part.iterations for part in parts),
        sum(part.products for part in parts),
        max(part.residual for part in parts),
        worst.reason,
        next(directions, None),
    )
