"""Krylov decompositions with full reorthogonalisation: what Lanczos, thick restarts and new starts all keep up."""

from __future__ import annotations

import torch
from torch import Tensor

from quadric.operators.operator import LinearOperator


class Krylov:
    """A V = V H + F E: V [n, m] orthonormal, H = VᵀAV [m, m], F [n, p] orthogonal to V, E [p, m].

    `expand` takes the next vector of the current chain into V, which is a step of Lanczos; `start` begins a new chain
    with a random vector orthogonal to V, which sees what the chains before could not, such as second copies of an
    eigenvalue; `follow` takes up what an earlier chain left; `restart` keeps combinations of V, so that memory stays
    bounded. All keep the equation up. The last column of F continues the current chain; those before are left over
    from earlier ones.

    H and E are float64 on the CPU. Cost of a step: one product and 4 n m operations (8 n m where cancellation asks for
    a second pass); n·capacity numbers. References: Stewart (2001), A Krylov–Schur algorithm for large eigenproblems;
    Wu and Simon (2000), Thick-restart Lanczos method.
    """

    def __init__(self, operator: LinearOperator, capacity: int) -> None:
        n = operator.shape[0]
        self.operator = operator
        self.capacity = capacity
        self.products = 0
        self.size = 0
        self._rows = torch.empty(capacity, n, dtype=operator.dtype, device=operator.device)  # Vᵀ, contiguous
        self._h = torch.zeros(capacity, capacity, dtype=torch.float64)
        self._f: list[Tensor] = []
        self._e = torch.zeros(0, capacity, dtype=torch.float64)
        self._next: Tensor | None = None
        self._scale = 0.0
        self.steps: list[tuple[float, float]] = []
        """(α, β) of the current chain since `start`: its tridiagonal matrix."""

    @property
    def h(self) -> Tensor:
        """H [m, m]."""
        return self._h[: self.size, : self.size]

    @property
    def e(self) -> Tensor:
        """G^½ E with G = FᵀF [p, m]: ‖F E y‖ = ‖G^½ E y‖. G's rounding errors are added to it, not taken off."""
        if not self._f:
            return self._e[:, : self.size]
        gram = torch.tensor([[_dot(a, b) for b in self._f] for a in self._f], dtype=torch.float64)
        values, vectors = torch.linalg.eigh(gram)
        values = values.clamp_min(0) + 4 * len(gram) * torch.finfo(gram.dtype).eps * values.max()
        rows: Tensor = vectors.T @ self._e[:, : self.size]
        scaled: Tensor = values.sqrt().unsqueeze(1) * rows
        return scaled

    @property
    def exhausted(self) -> bool:
        """Whether the current chain has nothing to go on with: V spans an invariant space, but for earlier chains."""
        return self._next is None

    def start(self, generator: torch.Generator) -> None:
        """Go on from a random vector, uniform on the unit sphere of the complement of V."""
        drawn = torch.randn(self.operator.shape[0], generator=generator, dtype=torch.float64)
        self._begin(drawn.to(self._rows.device, self._rows.dtype))

    def follow(self, vector: Tensor) -> None:
        """Go on from the residual F E y of the pair that y [m] makes, which a later chain may have left behind."""
        self._begin(self.outside(vector))

    def _begin(self, x: Tensor) -> None:
        for _ in range(3):
            x = x / _norm(x)
            x = x - self._along(x, self.size)
        self._next = x / _norm(x)
        self.steps = []

    def expand(self) -> None:
        """Take the chain's next vector x into V and A x apart. Raises ValueError where A x is not finite."""
        m, x = self.size, self._next
        assert x is not None
        t = torch.tensor([_dot(f, x) for f in self._f], dtype=torch.float64)
        w = self.operator @ x
        self.products += 1
        alpha, before = _dot(x, w), _norm(w)
        if not (abs(alpha) < float("inf") and before < float("inf")):
            raise ValueError("A product of the operator is not finite: NaN or infinity in its parameters or data?")
        coupling = self._e[:, :m].T @ t
        self._rows[m] = x
        # what is known of Vᵀ A x goes first: one pass over V then takes the rounding errors
        known = coupling.nonzero().squeeze(1).tolist()
        w = w - alpha * x
        if 0 < len(known) < 4:
            for i in known:
                w = w.sub_(self._rows[i], alpha=float(coupling[i]))
        elif known:
            w = w - self._rows[:m].T @ coupling.to(w)
        norm = _norm(w)
        r = w - self._along(w, m + 1)
        beta = _norm(r)
        if beta < 0.7 * norm:  # Daniel, Gragg, Kaufman and Stewart (1976)
            r = r - self._along(r, m + 1)
            beta = _norm(r)
        self._h[m, m] = alpha
        self._h[m, :m] = self._h[:m, m] = coupling
        self.size = m + 1
        self.steps.append((alpha, beta))
        self._scale = max(self._scale, abs(alpha) + beta, before)
        self._advance(x, t, r, beta)

    def _advance(self, x: Tensor, t: Tensor, r: Tensor, beta: float) -> None:
        """F and E after x has gone into V and A x has left r outside."""
        chained = bool(self._f) and self._f[-1] is x
        if chained:  # x itself is now in V
            self._f.pop()
            self._e, t = self._e[:-1], t[:-1]
        for f, along in zip(self._f, t.tolist(), strict=True):
            f.sub_(x, alpha=along)
        if beta <= 10 * torch.finfo(x.dtype).eps * self._scale:
            self._next = None
            self.steps[-1] = (self.steps[-1][0], 0.0)
            return
        self._next = r.div_(beta)
        self._f.append(self._next)
        row = torch.zeros(1, self.capacity, dtype=torch.float64)
        row[0, self.size - 1] = beta
        self._e = torch.cat([self._e, row])

    def restart(self, vectors: Tensor, values: Tensor) -> None:
        """Keep V Y for orthonormal eigenvectors Y [m, j] of H, with their eigenvalues [j]."""
        j = vectors.shape[1]
        kept = vectors.T.to(self._rows) @ self._rows[: self.size]
        self._e[:, :j] = self._e[:, : self.size] @ vectors
        self._e[:, j:] = 0
        self._rows[:j] = kept
        self._h.zero_()
        self._h[:j, :j] = torch.diag(values)
        self.size = j

    def combine(self, vectors: Tensor) -> Tensor:
        """V Y [n, j]."""
        return self._rows[: self.size].T @ vectors.to(self._rows)

    def outside(self, vector: Tensor) -> Tensor:
        """F E y [n], the residual of the pair that y [m] makes."""
        along = self._e[:, : self.size] @ vector
        total = torch.zeros_like(self._rows[0])
        for f, weight in zip(self._f, along.tolist(), strict=True):
            total.add_(f, alpha=weight)
        return total

    def _along(self, x: Tensor, m: int) -> Tensor:
        """V Vᵀ x for the first m vectors."""
        rows = self._rows[:m]
        return rows.T @ (rows @ x)


def _dot(a: Tensor, b: Tensor) -> float:
    """⟨a, b⟩ summed in float64: H is only as good as the vectors' lengths."""
    return float(a.double() @ b.double())


def _norm(a: Tensor) -> float:
    return float(torch.linalg.vector_norm(a, dtype=torch.float64))
