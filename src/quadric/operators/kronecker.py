"""Kronecker products."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from quadric.core.space import Space
from quadric.operators import queries
from quadric.operators.claims import inherit
from quadric.operators.definiteness import NotPositiveDefinite
from quadric.operators.dense import Dense
from quadric.operators.diagonal import Diagonal
from quadric.operators.eigen_kronecker import EigenKronecker
from quadric.operators.estimate import Estimate
from quadric.operators.operator import LinearOperator


class Kronecker(LinearOperator):
    """A ⊗ B: on matrices X [n_A, n_B], flattened row by row as a layer's weight [out, in] is, it is X ↦ A X Bᵀ.

    `left` A and `right` B are operators or matrices. Cost of a product: one of A with n_B columns, one of B with m_A.
    """

    def __init__(
        self,
        left: LinearOperator | Tensor,
        right: LinearOperator | Tensor,
        domain: Space | None = None,
        codomain: Space | None = None,
    ) -> None:
        self.left = left if isinstance(left, LinearOperator) else Dense(left)
        self.right = right if isinstance(right, LinearOperator) else Dense(right)
        if (self.left.dtype, self.left.device) != (self.right.dtype, self.right.device):
            raise ValueError(
                f"Factors must agree in dtype and device, got {self.left.dtype} on {self.left.device} and "
                f"{self.right.dtype} on {self.right.device}."
            )
        (m_a, n_a), (m_b, n_b) = self.left.shape, self.right.shape
        domain = domain or self._matrices(n_a, n_b)
        codomain = codomain or (domain if (m_a, m_b) == (n_a, n_b) else self._matrices(m_a, m_b))
        if (domain.numel, codomain.numel) != (n_a * n_b, m_a * m_b):
            raise ValueError(
                f"Factors of shape {self.left.shape} and {self.right.shape} make an operator of shape "
                f"{(m_a * m_b, n_a * n_b)}, the spaces given are for {(codomain.numel, domain.numel)}."
            )
        super().__init__(domain, codomain)
        inherit(self, self.left, self.right)

    def _matrices(self, rows: int, columns: int) -> Space:
        return Space(("",), (torch.Size([rows, columns]),), (self.left.dtype,), self.left.device, ("",))

    def _apply(self, x: Tensor) -> Tensor:
        (m_a, n_a), (m_b, n_b), k = self.left.shape, self.right.shape, x.shape[1]
        rows = self.left._apply(x.reshape(n_a, n_b * k)).reshape(m_a, n_b, k)
        columns = self.right._apply(rows.transpose(0, 1).reshape(n_b, m_a * k)).reshape(m_b, m_a, k)
        return columns.transpose(0, 1).reshape(m_a * m_b, k)

    def _transpose(self) -> LinearOperator:
        return Kronecker(self.left.T, self.right.T, self.codomain, self.domain)

    def _dense(self) -> Tensor:
        return torch.kron(self.left._dense().contiguous(), self.right._dense().contiguous())

    def eigen(self) -> EigenKronecker | None:
        """The same operator by the eigenvectors of its factors; None unless both are symmetric."""
        if not (self.left.symmetric and self.right.symmetric):
            return None
        values_a, q_a = torch.linalg.eigh(self.left._dense())
        values_b, q_b = torch.linalg.eigh(self.right._dense())
        return EigenKronecker(q_a, q_b, torch.outer(values_a, values_b), self.space)


@queries.diagonal.register(Kronecker)
def _diagonal(operator: Kronecker, recurse: Callable[[LinearOperator], Diagonal]) -> Diagonal | None:
    if operator.left.shape[0] != operator.left.shape[1]:
        return None
    left, right = recurse(operator.left), recurse(operator.right)
    values = torch.outer(left.values, right.values).reshape(-1)
    upper = torch.outer(left.values.abs() + left.standard_error, right.values.abs() + right.standard_error)
    return Diagonal(
        values, operator.space, None if left.exact and right.exact else upper.reshape(-1) - values.abs(),
        products=left.products + right.products, converged=left.converged and right.converged,
    )  # fmt: skip


@queries.trace.register(Kronecker)
def _trace(operator: Kronecker, recurse: Callable[[LinearOperator], Estimate]) -> Estimate | None:
    if operator.left.shape[0] != operator.left.shape[1]:
        return None
    left, right = recurse(operator.left), recurse(operator.right)
    value = left.estimate * right.estimate
    error = (abs(left.estimate) + left.standard_error) * (abs(right.estimate) + right.standard_error) - abs(value)
    return Estimate(
        value, 0.0 if left.exact and right.exact else error,
        left.products + right.products, left.converged and right.converged,
    )  # fmt: skip


@queries.inverse.register(Kronecker)
def _inverse(
    operator: Kronecker, shift: float, recurse: Callable[[LinearOperator, float], LinearOperator]
) -> LinearOperator | None:
    """(A ⊗ B)⁻¹ = A⁻¹ ⊗ B⁻¹; a shift is added to the eigenvalues, exactly."""
    if operator.left.shape[0] != operator.left.shape[1]:
        return None
    if shift == 0:
        try:
            left, right = recurse(operator.left, 0.0), recurse(operator.right, 0.0)
            return Kronecker(left, right, operator.codomain, operator.domain)
        except NotPositiveDefinite:
            pass  # the eigenvalues of the whole are asked: two negative definite factors make a positive definite one
    eigen = operator.eigen()
    return None if eigen is None else eigen.power(shift, -1)


@queries.logdet.register(Kronecker)
def _logdet(operator: Kronecker, shift: float, recurse: Callable[[LinearOperator, float], Estimate]) -> Estimate | None:
    eigen = operator.eigen()
    return None if eigen is None else recurse(eigen, shift)


@queries.square_root.register(Kronecker)
def _square_root(
    operator: Kronecker, shift: float, recurse: Callable[[LinearOperator, float], LinearOperator]
) -> LinearOperator | None:
    """(A ⊗ B)^½ = A^½ ⊗ B^½; a shift is added to the eigenvalues."""
    if shift == 0 and operator.symmetric:
        try:
            return Kronecker(recurse(operator.left, 0.0), recurse(operator.right, 0.0), operator.space)
        except NotPositiveDefinite:
            pass  # as in the inverse
    eigen = operator.eigen()
    return None if eigen is None else eigen.power(shift, 0.5)
