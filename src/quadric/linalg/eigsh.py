"""Extremal eigenpairs of symmetric operators, multiplicities included."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor

from quadric.core.errors import unknown_name
from quadric.core.memory import memory_limit
from quadric.core.progress import Progress, Reporter
from quadric.core.space import Space
from quadric.linalg.dense_eigh import beyond, dense_eigh, rounding_reason
from quadric.linalg.eigenpairs import Eigenpairs
from quadric.linalg.extent import chain_bounds
from quadric.linalg.krylov import Krylov
from quadric.linalg.limits import EXACT_BELOW
from quadric.linalg.lobpcg import lobpcg
from quadric.linalg.probes import seeded, signs
from quadric.linalg.repeatable import check_repeatable
from quadric.linalg.wanted import WHICH, listed, wanted_first
from quadric.operators.operator import SMALL, LinearOperator

RISK = 1e-2
"""Probability with which a bound on what is not listed may fail, for each end of the spectrum."""
LOOK = 3
"""Steps between looks at convergence, or a sixteenth of the basis."""
BASIS, BASIS_BYTES = 160, 2**31
"""The basis grows to so many vectors before a restart, fewer where they would take more memory than this."""


def eigsh(
    operator: LinearOperator,
    k: int = 6,
    which: str = "LA",
    tol: float = 1e-6,
    *,
    return_eigenvectors: bool = True,
    preconditioner: LinearOperator | None = None,
    basis: int | None = None,
    max_products: int | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> Eigenpairs:
    """The k eigenpairs A v = θ v that are largest ("LA"), smallest ("SA"), largest in magnitude ("LM"), or from both
    ends ("BE", the odd one from the top), to residuals of at most `tol` times the largest magnitude; or without
    eigenvectors, to errors of the eigenvalues of at most that, which are quadratic in the residuals and so need fewer
    products.

    Thick-restart Lanczos, always fully reorthogonalised, from a random start of `seed`. A Krylov space holds one vector
    of each eigenspace only, so when it has converged a second random chain explores the complement: what it finds
    beyond the k-th eigenvalue is taken in, until such a chain finds nothing, and bounds what it could have missed
    (`.upper`, `.lower`). One more product measures rounding errors, which the residuals include. Where n is no more
    than the basis, and where n ≤ 2,000 and the iteration has taken n products, the whole matrix is decomposed instead.
    With a `preconditioner` P ≈ (A − λ_min)⁻¹, positive definite, the smallest are found by LOBPCG.

    `basis` is how many vectors of n numbers are kept at most (default 2 k + 20, or up to 160 that fit into 2 GiB),
    `max_products` where to give up (default 20 n, within 100 and 5,000, and at least 2 k); then, and where rounding
    errors are above the tolerance, it warns (NotConverged). `progress` is called with a line now and then.

    Cost: one product a step, and 4 n m operations with m vectors in the basis. Raises ValueError where A is not known
    to be symmetric, its data differ between readings, the basis is larger than the memory, or an argument is out of
    range. References: Wu and Simon (2000); Stewart (2001); the bounds are by van Dorsselaer, Hochstenbach and van der
    Vorst (2000) with Haynsworth's inertia.
    """
    n = operator.space.numel
    _check(operator, n, k, which, tol, preconditioner)
    size = _basis(operator, k, basis)
    limit = max(min(max(100, 20 * n), 5_000), 2 * k) if max_products is None else max_products
    if limit < k:
        raise ValueError(f"Expected max_products of at least k = {k}, got {max_products!r}.")
    if preconditioner is None:
        _check_room(operator, k, size)
    # n products are spent on finding out that n more are needed
    whole = n <= EXACT_BELOW and (max_products is None or max_products > 2 * n)
    check_repeatable(operator)
    with Reporter(progress, f"eigsh, {k} of {n} eigenvalues") as reporter:
        if preconditioner is not None:
            found = lobpcg(
                operator, k, preconditioner, tol=tol, seed=seed, max_products=limit, progress=reporter.report
            )
            return found if return_eigenvectors else found.alone()
        if n <= size:
            found = dense_eigh(operator, k, which, tol, 0)
        else:
            most = min(limit, n) if whole else limit
            search = _Search(operator, k, which, tol, return_eigenvectors, size, most, seed, reporter)
            found = search.run()
            if search.ran_out and whole:
                found = dense_eigh(operator, k, which, tol, found.products)
    if not return_eigenvectors:
        found = found.alone()
    return found.warn("eigsh")


def _check(
    operator: LinearOperator, n: int, k: int, which: str, tol: float, preconditioner: LinearOperator | None
) -> None:
    if which not in WHICH:
        raise unknown_name("which", which, WHICH)
    if isinstance(k, bool) or not isinstance(k, int) or not 1 <= k <= n:
        raise ValueError(f"Expected k from 1 to {n}, the dimension, got {k!r}.")
    if not (isinstance(tol, float | int) and 0 < tol < 1):
        raise ValueError(f"Expected a tolerance between 0 and 1, relative to the largest eigenvalue, got {tol!r}.")
    if not operator.symmetric:
        raise ValueError(
            f"eigsh needs a symmetric operator, and this {type(operator).__name__} of shape {operator.shape} is not "
            "known to be one. If you know that it is, say so with claim_symmetric(operator)."
        )
    if preconditioner is not None:
        if which != "SA":
            raise ValueError(f"A preconditioner is for the smallest eigenvalues, which='SA', got which={which!r}.")
        if not preconditioner.space.same_as(operator.space):
            raise ValueError(f"The preconditioner has shape {preconditioner.shape}, the operator {operator.shape}.")


def _basis(operator: LinearOperator, k: int, basis: int | None) -> int:
    n = operator.shape[0]
    least = min(n, k + 3)
    if basis is not None:
        if isinstance(basis, bool) or not isinstance(basis, int) or basis < least:
            raise ValueError(f"Expected a basis of at least k + 3 = {k + 3} vectors, got {basis!r}.")
        return min(basis, n)
    return basis_size(n, operator.dtype.itemsize, k)


def _check_room(operator: LinearOperator, k: int, size: int) -> None:
    """Raise ValueError where the basis, or the whole matrix in the place of one, is larger than all memory."""
    n = operator.shape[0]
    device: torch.device | str = operator.device
    needed, what = (size + k) * n * operator.dtype.itemsize, f"a basis of {size:,} vectors and as many results as k"
    if n <= size:
        needed, what, device = 3 * 8 * n * n, "the whole matrix and its eigenvectors", "cpu"
    there = memory_limit(device) if needed > SMALL else None
    if there is not None and needed > there:
        raise ValueError(
            f"k = {k:,} eigenpairs of dimension {n:,} take {needed / 2**30:.1f} GiB for {what}, and the memory is "
            f"{there / 2**30:.1f} GiB in all: ask for fewer, or give a smaller basis."
        )


def basis_size(n: int, itemsize: int, k: int) -> int:
    """How many vectors of n numbers are kept for k eigenpairs, unless told; where it is n, the matrix is decomposed."""
    return min(n, max(2 * k + 20, min(BASIS, BASIS_BYTES // (n * itemsize))))


@dataclass
class _Search:
    """One run of the iteration."""

    operator: LinearOperator
    k: int
    which: str
    tol: float
    by_vectors: bool
    basis: int
    limit: int
    seed: int
    reporter: Reporter
    krylov: Krylov = field(init=False)
    theta: Tensor = field(init=False)
    vectors: Tensor = field(init=False)
    order: Tensor = field(init=False)
    residuals: Tensor = field(init=False)
    deviations: Tensor = field(init=False)
    upper: float = math.inf
    lower: float = -math.inf
    ran_out: bool = False

    def __post_init__(self) -> None:
        self.krylov = Krylov(self.operator, min(self.operator.shape[0], self.basis))
        self.generator = seeded(self.seed)

    def run(self) -> Eigenpairs:
        """Search, look whether something was missed, and search on if so."""
        self.krylov.start(self.generator)
        while True:
            if not self._search():
                return self._finish()
            if self.krylov.size == self.operator.shape[0] or not self._missed():
                return self._finish()
            if not self._settled():
                worst = int(self.order[int(self.deviations.argmax())])
                self.krylov.follow(self.vectors[:, worst])

    @property
    def slack(self) -> float:
        """What may be missed beyond the last of the wanted; the errors include it."""
        return 0.5 * self.tol * self.scale

    @property
    def scale(self) -> float:
        """The largest magnitude of an eigenvalue seen."""
        return float(self.theta.abs().max())

    def _search(self) -> bool:
        """Expand until the k wanted Ritz pairs have converged; False where products run out first."""
        krylov = self.krylov
        while True:
            if krylov.size >= self.k:
                self._ritz()
                if self._settled():
                    return True
            if krylov.size == self.operator.shape[0]:
                return True
            for _ in range(max(LOOK, krylov.size // 16) if krylov.size >= self.k else self.k - krylov.size):
                if krylov.products >= self.limit:
                    self._ritz()
                    self.ran_out = not self._settled()
                    return not self.ran_out
                self._step()

    def _step(self) -> None:
        krylov = self.krylov
        if krylov.size == krylov.capacity:
            self._shrink(krylov.capacity - max(1, (krylov.capacity - self.k) // 2))
        if krylov.exhausted:
            krylov.start(self.generator)
        krylov.expand()

    def _shrink(self, keep: int) -> None:
        """Restart with the most wanted Ritz vectors."""
        self._ritz()
        kept = self.order[: max(self.k, keep)]
        self.krylov.restart(self.vectors[:, kept], self.theta[kept])

    def _ritz(self) -> None:
        """Ritz pairs, the most wanted first in `order`, and of the wanted the residuals and what has to be small."""
        krylov = self.krylov
        self.theta, self.vectors = torch.linalg.eigh(krylov.h)
        self.order = wanted_first(self.theta, self.which)
        self.residuals = (krylov.e @ self.vectors[:, self.order[: self.k]]).norm(dim=0)
        self.deviations = self.residuals
        if not self.by_vectors:
            self.deviations = torch.minimum(self.residuals, self._second_order(0.0)[self.order[: self.k]])
        worst = float(self.deviations.max()) / (self.scale or 1.0)
        name = "residual" if self.by_vectors else "error"
        self.reporter.report(f"{krylov.products} products, {name} {worst:.1e} of {self.tol:.1e}")

    def _settled(self) -> bool:
        if self.theta.numel() < self.k:
            return False
        # half of the tolerance is left to rounding errors
        return bool((self.deviations <= 0.5 * self.tol * self.scale).all())

    def _ends(self) -> tuple[float, float]:
        """The innermost wanted value of each end: infinite where nothing is wanted of it."""
        wanted = self.theta[self.order[: self.k]]
        if self.which == "LA":
            return float(wanted.min()), -math.inf
        if self.which == "SA":
            return math.inf, float(wanted.max())
        if self.which == "LM":
            return float(wanted.abs().min()), -float(wanted.abs().min())
        return float(wanted[0::2].min()), float(wanted[1::2].max()) if self.k > 1 else -math.inf

    def _missed(self) -> bool:
        """Explore the complement from a new random start; True once the wanted pairs are no longer all converged.

        It ends when `upper` and `lower` say that nothing is missed by more than the tolerance, after half as many
        products as went before, or where products run out.
        """
        krylov, n = self.krylov, self.operator.shape[0]
        # a search to a residual of 1e-6 resolves what a chain of half its length needs to be sure of, to 99 %
        room = min(n - krylov.size, max(20, krylov.products // 2), max(2, (krylov.capacity - self.k) // 2))
        if krylov.size + room > krylov.capacity:
            self._shrink(krylov.capacity - room)
            self._ritz()
        complement = n - krylov.size
        top, bottom = self._ends()
        krylov.start(self.generator)
        for step in range(1, room + 1):
            krylov.expand()
            last = step == room or krylov.products >= self.limit or krylov.exhausted
            if step % LOOK and not last:
                continue
            self._ritz()
            high, low = self._ends()
            if not self._settled() or high > top + self.slack or low < bottom - self.slack:
                return True
            sure = self._bounded(complement, last)
            if sure or last:
                self.ran_out = not sure and step < room and not krylov.exhausted
                break
        return False

    def _bounded(self, complement: int, last: bool) -> bool:
        """Set `upper` and `lower` by what the chain has seen; True where they are at the wanted values."""
        low, high = chain_bounds(self.krylov.steps, complement, RISK)
        top, bottom = self._ends()
        if top < math.inf:
            self.upper = self._end(high, top + self.slack, 1.0, last)
        if bottom > -math.inf:
            self.lower = -self._end(-low, -bottom + self.slack, -1.0, last)
        return (top == math.inf or self.upper <= top + self.slack) and (
            bottom == -math.inf or self.lower >= bottom - self.slack
        )

    def _end(self, bound: float, goal: float, sign: float, last: bool) -> float:
        """What is at or above all of A's eigenvalues that are not listed, given λ_max(C) ≤ bound, or infinity.

        It comes of a σ such that H's eigenvalues above σ are all of A's above σ: the goal, or the least found when it
        is the last time to look. What H has above σ and is not listed raises it.

        With C = A on the complement of V, A has as many eigenvalues above σ > λ_max(C) as the Schur complement
        H − σ + EᵀFᵀ(σ − C)⁻¹F E has positive ones, which is at most H − σ + EᵀFᵀF E / (σ − bound).
        """
        theta, rotated = sign * self.theta, self.krylov.e @ self.vectors
        gram = rotated.T @ rotated
        others = theta[self.order[self.k :]]
        reach = others + rotated[:, self.order[self.k :]].norm(dim=0)
        steps = (self.slack, *(share * self.scale for share in (1e-5, 1e-3, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0)))
        for sigma in (goal, *(bound + step for step in steps if last)):
            if sigma <= bound:
                continue
            schur = torch.diag(theta - sigma) + gram / (sigma - bound)
            if int((torch.linalg.eigvalsh(schur) > 0).sum()) == int((theta > sigma).sum()):
                return float(torch.cat([reach[others > sigma], theta.new_tensor([sigma])]).max())
        return math.inf

    def _finish(self) -> Eigenpairs:
        krylov, operator = self.krylov, self.operator
        chosen = self.order[: self.k]
        turn = listed(self.theta[chosen], self.which)
        chosen, left = chosen[turn], self.residuals[turn]
        values, rotation = self.theta[chosen], self.vectors[:, chosen]
        vectors = krylov.combine(rotation)
        rounding, inside = self._rounding(vectors, values, rotation)
        residuals = left + rounding
        errors = torch.minimum(residuals, inside + self._second_order(rounding)[chosen])
        top, bottom = self._ends()
        edge = ((values - top).abs() <= self.slack) | ((values - bottom).abs() <= self.slack)
        errors = errors + self.slack * edge
        allowed = self.tol * self.scale
        met = bool((self.deviations <= allowed).all())
        converged = met and not self.ran_out and bool((errors <= allowed).all())
        reason = "the tolerance was met"
        if not converged:
            reason = rounding_reason(operator.dtype)
            if self.ran_out:
                reason = "products ran out (max_products)" + (", before a look for missed copies ended" if met else "")
        if krylov.size == operator.shape[0]:
            self.upper, self.lower = beyond(self.theta[self.order[self.k :]], self.which, self.k)
        return Eigenpairs(
            values, vectors, residuals, errors, converged, krylov.products, self.tol, self.scale,
            self.upper + rounding, self.lower - rounding, reason,
        )  # fmt: skip

    def _rounding(self, vectors: Tensor, values: Tensor, rotation: Tensor) -> tuple[float, float]:
        """‖D‖_F and ‖XᵀD‖_F with D = A X − (X Θ + F E Y), by one product with a combination of weights ±1."""
        c = signs(Space.euclidean(self.k, torch.float64), 1, self.generator).squeeze(1)
        image = self.operator @ (vectors @ c.to(vectors))
        self.krylov.products += 1
        known = vectors @ (values * c).to(vectors) + self.krylov.outside(rotation @ c)
        error = image - known
        floor = torch.finfo(vectors.dtype).eps * self.scale
        return float(error.double().norm()) + floor, float((vectors.T @ error).double().norm()) + floor

    def _second_order(self, rounding: float) -> Tensor:
        """Bounds of |θ_i − λ_i| [m] that are quadratic in the residuals, infinite where there is none.

        For the j outermost Ritz pairs of one end, with residuals R and a gap δ between θ_j and the rest of the
        spectrum, each of these θ_i is within ‖R‖²/δ of its eigenvalue (Parlett 1998, section 11.7, for blocks).
        """
        squares = ((self.krylov.e @ self.vectors).norm(dim=0) + rounding).square()
        bounds = torch.full_like(self.theta, math.inf)
        for sign in (1.0, -1.0):
            theta, square = (self.theta.flip(0), squares.flip(0)) if sign > 0 else (self.theta, squares)
            gaps = (theta[:-1] - theta[1:]).abs() - square[1:].sqrt()
            every = torch.where(gaps > 0, square.cumsum(0)[:-1] / gaps.clamp_min(1e-300), math.inf)
            best = torch.cat([every.flip(0).cummin(0).values.flip(0), every.new_full((1,), math.inf)])
            bounds = torch.minimum(bounds, best.flip(0) if sign > 0 else best)
        return bounds
