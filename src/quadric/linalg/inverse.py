"""Inverses: (C + λI)⁻¹ + αI as an operator."""

from __future__ import annotations

import math

from torch import Tensor

from quadric.core.errors import unknown_name
from quadric.linalg.cg import conjugate_gradients
from quadric.linalg.extremal import extremes
from quadric.linalg.limits import EXACT_BELOW
from quadric.linalg.lsmr import least_squares
from quadric.linalg.minres import minimal_residuals
from quadric.linalg.shifted import check_damping, shifted
from quadric.linalg.solution import Solution
from quadric.operators import queries
from quadric.operators.claims import inherit
from quadric.operators.definiteness import NotPositiveDefinite
from quadric.operators.dense import dense_inverse
from quadric.operators.identity import Identity, identity_like
from quadric.operators.inverse_of import InverseOf
from quadric.operators.operator import LinearOperator

SOLVERS = ("dense", "cg", "minres", "lsmr")


def inverse(
    operator: LinearOperator,
    damping: float = 0.0,
    correction: float = 0.0,
    solver: str | None = None,
    tol: float = 1e-6,
    *,
    preconditioner: LinearOperator | None = None,
) -> LinearOperator:
    """(C + λI)⁻¹ + αI with λ `damping` and α `correction`.

    By default (`solver=None`) in closed form where the structure gives one: Cholesky for a dense matrix, entries of a
    diagonal, block by block, Woodbury for low rank, eigenvalues for Kronecker products, also under sums with the
    identity and multiples. Else by the whole matrix for n ≤ 2,000, and by conjugate gradients beyond. All of these ask
    that C + λI be positive definite where C is symmetric; a square C that is not symmetric goes by LU, and for n beyond
    2,000 only by name.

    By name, `solver` is "dense" (factorise the whole matrix), "cg", "minres" (symmetric, may be indefinite) or "lsmr"
    (any square C). Iterative solvers solve at each product, to a relative residual `tol`, at the parameters as they are
    then; factorisations are those of C now. `preconditioner` P ≈ (C + λI)⁻¹ is for "cg".

    Raises NotPositiveDefinite (a ConvergenceError) that gives the smallest eigenvalue found and the damping that would
    do, when it is met: at once in closed forms, in a product with CG. A product that stops short of `tol` gives a
    NotConverged warning. Raises ValueError for negative or non-finite λ, or a rectangular C.
    """
    operator.space  # noqa: B018 - raises where the operator is rectangular
    check_damping(damping)
    if not (isinstance(correction, float | int) and math.isfinite(correction)):
        raise ValueError(f"Expected a finite correction, got {correction!r}.")
    if not (isinstance(tol, float | int) and 0 < tol < 1):
        raise ValueError(f"Expected a relative tolerance between 0 and 1, got {tol!r}.")
    if solver is not None and solver not in SOLVERS:
        raise unknown_name("solver", solver, SOLVERS)
    if preconditioner is not None and solver not in (None, "cg"):
        raise ValueError(f"A preconditioner is for solver='cg', got solver={solver!r}.")
    if preconditioner is not None:
        solver = "cg"
    try:
        result = _structured(operator, damping, tol) if solver is None else None
    except NotPositiveDefinite as found:
        raise found.explained(damping) from None
    if result is None:
        result = _solved(operator, damping, solver, tol, preconditioner)
    return result + correction * identity_like(result) if correction else result


def _structured(operator: LinearOperator, damping: float, tol: float) -> LinearOperator:
    """(A + σI)⁻¹ by the structure of A, by its matrix where it is small, else by CG."""

    def ask(part: LinearOperator, shift: float) -> LinearOperator:
        form = shifted(part, shift)
        if form.base is None:
            return Identity(part.space) / form.factor
        with form.findings():
            closed = queries.inverse(form.base, form.shift, ask)
        if closed is None:
            return _unstructured(part, shift, tol)
        return closed if form.factor == 1 else closed / form.factor

    return ask(operator, damping)


def _unstructured(operator: LinearOperator, shift: float, tol: float) -> LinearOperator:
    if operator.shape[0] <= EXACT_BELOW:
        return dense_inverse(operator, operator._dense(), shift)
    return SolverInverse(operator, shift, "cg", tol)


def _solved(
    operator: LinearOperator, damping: float, solver: str | None, tol: float, preconditioner: LinearOperator | None
) -> LinearOperator:
    if solver == "dense":
        try:
            return dense_inverse(operator, operator.to_dense(), damping)
        except NotPositiveDefinite as found:
            raise found.explained(damping) from None
    return SolverInverse(operator, damping, solver or "cg", tol, preconditioner)


class SolverInverse(InverseOf):
    """(C + λI)⁻¹ by an iterative solver at each product; `last` is the Solution of the latest."""

    def __init__(
        self,
        operator: LinearOperator,
        damping: float,
        solver: str,
        tol: float,
        preconditioner: LinearOperator | None = None,
    ) -> None:
        if solver != "lsmr" and not operator.symmetric:
            raise ValueError(
                f"{solver.upper()} needs a symmetric operator, and this {type(operator).__name__} of shape "
                f"{operator.shape} is not known to be one. If you know that it is, say so with "
                "claim_symmetric(operator); else use solver='lsmr'."
            )
        super().__init__(operator + damping * identity_like(operator) if damping else operator)
        self.damping = damping
        self.solver = solver
        self.tol = tol
        self.preconditioner = preconditioner
        self.last: Solution | None = None
        inherit(self, operator)

    def _apply(self, x: Tensor) -> Tensor:
        if self.solver == "minres":
            solution = minimal_residuals(self.operator, x, self.tol)
        elif self.solver == "lsmr":
            solution = least_squares(self.operator, x, 0.0, self.tol)
        else:
            solution = conjugate_gradients(self.operator, x, self.tol, None, self.preconditioner)
            if solution.negative_curvature is not None:
                smallest, largest = extremes(self.operator, solution.negative_curvature)
                raise NotPositiveDefinite(smallest, largest, self.dtype).explained(self.damping)
        self.last = solution
        solution.warn(f"The product with the inverse, by {self.solver.upper()},")
        return solution.solution

    def _transpose(self) -> LinearOperator:
        return SolverInverse(self.operator.T, 0.0, self.solver, self.tol, self.preconditioner)
