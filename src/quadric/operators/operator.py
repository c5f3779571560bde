"""The base of every linear operator: two methods to write, the rest is composition."""

from __future__ import annotations

from abc import ABC, abstractmethod
from numbers import Real
from typing import TYPE_CHECKING, Any, overload

import torch
from torch import Tensor

from quadric.core.memory import memory_limit
from quadric.core.space import Space

if TYPE_CHECKING:
    from scipy.sparse.linalg import LinearOperator as ScipyOperator

DENSE_LIMIT = 20_000
"""Dimension above which `to_dense` asks to be told."""
SMALL = 2**26
"""Bytes up to which it does not ask the system how much memory there is."""


class LinearOperator(ABC):
    """A linear map A from `domain` (n) to `codomain` (m): `A @ x` with x of shape [n] or [n, k].

    A subclass sets `domain` and `codomain` and writes `_apply` and `_transpose`. `symmetric` and
    `positive_semidefinite` are claims: True only where known, unknown is False.
    """

    symmetric: bool = False
    positive_semidefinite: bool = False

    def __init__(self, domain: Space, codomain: Space | None = None) -> None:
        self._domain = domain
        self._codomain = domain if codomain is None else codomain

    @abstractmethod
    def _apply(self, x: Tensor) -> Tensor:
        """A x for x of shape [n, k], already checked."""

    @abstractmethod
    def _transpose(self) -> LinearOperator:
        """Aᵀ; only asked where the operator is not symmetric."""

    # ---- what it acts on

    @property
    def domain(self) -> Space:
        """The space of x."""
        return self._domain

    @property
    def codomain(self) -> Space:
        """The space of A x."""
        return self._codomain

    @property
    def space(self) -> Space:
        """The one space a square operator acts on."""
        domain = self.domain
        if self.codomain.numel != domain.numel:
            raise ValueError(
                f"A rectangular operator of shape {self.shape} has a domain and a codomain, not one space."
            )
        return domain

    @property
    def shape(self) -> tuple[int, int]:
        """(m, n)."""
        return self.codomain.numel, self.domain.numel

    @property
    def dtype(self) -> torch.dtype:
        """Dtype of x and of A x."""
        return self.domain.dtype

    @property
    def device(self) -> torch.device:
        """Device of x and of A x."""
        return self.domain.device

    @property
    def T(self) -> LinearOperator:
        """Aᵀ; the operator itself when it is symmetric."""
        return self if self.symmetric else self._transpose()

    # ---- products and algebra

    @overload
    def __matmul__(self, other: Tensor) -> Tensor: ...
    @overload
    def __matmul__(self, other: LinearOperator) -> LinearOperator: ...
    def __matmul__(self, other: Any) -> Any:
        """A x, or the composition A B. Raises where length, dtype or device of x differ from the operator's."""
        if isinstance(other, LinearOperator):
            from quadric.operators.algebra import Product

            return Product(self, other)
        self.domain.check(other)
        if other.dim() == 1:
            return self._apply(other.unsqueeze(1)).squeeze(1)
        return self._apply(other)

    def __add__(self, other: LinearOperator) -> LinearOperator:
        from quadric.operators.algebra import Sum

        return Sum(self, other) if isinstance(other, LinearOperator) else NotImplemented

    def __sub__(self, other: LinearOperator) -> LinearOperator:
        return self + (-1.0) * other if isinstance(other, LinearOperator) else NotImplemented

    def __mul__(self, factor: float) -> LinearOperator:
        from quadric.operators.algebra import Scaled

        number: Any = float(factor) if isinstance(factor, Tensor) and factor.numel() == 1 else factor
        return Scaled(self, float(number)) if isinstance(number, Real) else NotImplemented

    def __rmul__(self, factor: float) -> LinearOperator:
        return self * factor

    def __truediv__(self, divisor: float) -> LinearOperator:
        return self * (1 / divisor)

    def __neg__(self) -> LinearOperator:
        return self * -1.0

    # ---- other forms

    def to_dense(self, limit: int = DENSE_LIMIT) -> Tensor:
        """The matrix [m, n]. Cost: n products, m·n numbers.

        Raises ValueError where n or m exceeds `limit`, or the matrix needs more memory than the process can have.
        """
        needed = self.shape[0] * self.shape[1] * self.dtype.itemsize
        takes = f"A dense matrix of shape {list(self.shape)} takes {needed / 2**30:.1f} GiB"
        if max(self.shape) > limit:
            raise ValueError(
                f"{takes} and {self.shape[1]} products; to_dense refuses above {limit}. "
                f"Pass limit={max(self.shape)} if that is what you want."
            )
        there = memory_limit(self.device) if needed > SMALL else None
        if there is not None and needed > there:
            raise ValueError(
                f"{takes}, and the memory is {there / 2**30:.1f} GiB in all. Use products (`op @ x`) instead."
            )
        return self._dense()

    def _dense(self) -> Tensor:
        """The matrix [m, n], whatever its size; structures that know theirs override it."""
        return self._apply(torch.eye(self.shape[1], dtype=self.dtype, device=self.device))

    def to_scipy(self) -> ScipyOperator:
        """The operator for `scipy.sparse.linalg`: NumPy vectors on the CPU in and out."""
        from quadric.operators.scipy import to_scipy

        return to_scipy(self)

    def __repr__(self) -> str:
        return f"{type(self).__name__}(shape={self.shape}, dtype={self.dtype}, device={str(self.device)!r})"
