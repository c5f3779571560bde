"""Diagonal operators."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from quadric.core.saved import Saved
from quadric.core.space import Space
from quadric.operators import queries
from quadric.operators.definiteness import require_positive
from quadric.operators.estimate import Estimate
from quadric.operators.operator import LinearOperator
from quadric.operators.selection import Selection


class Diagonal(LinearOperator, Saved):
    """diag(d): `values` d [n], and their `standard_error` [n], zero where they are exact.

    `products` is what they took to find, `converged` whether the standard errors are within the tolerance that was
    asked for, if one was. From a file it comes back over ℝⁿ, without the names of parameters.
    """

    symmetric = True

    def __init__(
        self,
        values: Tensor,
        space: Space | None = None,
        standard_error: Tensor | None = None,
        *,
        products: int = 0,
        converged: bool = True,
    ) -> None:
        if not isinstance(values, Tensor) or values.dim() != 1 or not values.is_floating_point():
            got = f"{list(values.shape)} of {values.dtype}" if isinstance(values, Tensor) else type(values).__name__
            raise ValueError(f"Expected a floating-point vector [n], got {got}.")
        space = space or Space.euclidean(values.numel(), values.dtype, values.device)
        space.check(values, dims=(1,))
        super().__init__(space)
        self.values = values
        self.exact = standard_error is None
        self.standard_error = torch.zeros_like(values) if standard_error is None else standard_error
        self.products, self.converged = products, converged
        self.positive_semidefinite = bool((values >= 0).all())

    @classmethod
    def constant(cls, value: float, space: Space) -> Diagonal:
        """The multiple of the identity, entry by entry."""
        return cls(torch.full((space.numel,), value, dtype=space.dtype, device=space.device), space)

    def _apply(self, x: Tensor) -> Tensor:
        return self.values.unsqueeze(1) * x

    def _transpose(self) -> LinearOperator:
        return self

    def _saved(self) -> dict[str, Any]:
        error = None if self.exact else self.standard_error
        return {
            "values": self.values, "standard_error": error, "products": self.products, "converged": self.converged,
        }  # fmt: skip

    def __repr__(self) -> str:
        kind = "exact" if self.exact else f"estimated, standard error up to {float(self.standard_error.max()):.2g}"
        return f"{super().__repr__()[:-1]}, {kind})"


@queries.diagonal.register(Diagonal)
def _diagonal(operator: Diagonal, recurse: Callable[[LinearOperator], Diagonal]) -> Diagonal:
    return operator


@queries.trace.register(Diagonal)
def _trace(operator: Diagonal, recurse: Callable[[LinearOperator], Estimate]) -> Estimate:
    error = float(operator.standard_error.double().sum())
    return Estimate(float(operator.values.double().sum()), error, converged=operator.converged)


@queries.inverse.register(Diagonal)
def _inverse(
    operator: Diagonal, shift: float, recurse: Callable[[LinearOperator, float], LinearOperator]
) -> LinearOperator:
    values = operator.values + shift
    require_positive(values, operator.dtype)
    return Diagonal(1 / values, operator.space)


@queries.logdet.register(Diagonal)
def _logdet(operator: Diagonal, shift: float, recurse: Callable[[LinearOperator, float], Estimate]) -> Estimate:
    values = operator.values + shift
    require_positive(values, operator.dtype)
    return Estimate(float(values.double().log().sum()))


@queries.square_root.register(Diagonal)
def _square_root(
    operator: Diagonal, shift: float, recurse: Callable[[LinearOperator, float], LinearOperator]
) -> LinearOperator:
    values = operator.values + shift
    require_positive(values, operator.dtype)
    return Diagonal(values.sqrt(), operator.space)


@queries.restrict.register(Diagonal)
def _restrict(operator: Diagonal, selection: Selection) -> LinearOperator:
    error = None if operator.exact else operator.standard_error[selection.index]
    return Diagonal(
        operator.values[selection.index], selection.space, error,
        products=operator.products, converged=operator.converged,
    )  # fmt: skip
