"""What the secant approximations of the inverse Hessian share: storage, safeguards, the scale to begin with."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections import deque
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from quadric.core.space import Space
from quadric.operators.operator import LinearOperator

Terms = tuple[Tensor, Tensor]
"""W [n, r] and M [r, r] of an update H + W M Wᵀ."""


@dataclass(frozen=True)
class SecantUpdate:
    """What became of a pair: `accepted` or skipped, `damped` where s was moved towards H y first, and why."""

    accepted: bool
    damped: bool
    reason: str


class Secant(LinearOperator):
    """H ≈ (∇²f)⁻¹ that satisfies the secant equation H y = s for the latest step s = Δw and its y = Δ∇f.

    `memory=None` keeps the matrix: n² numbers, 4 n² operations a product or update. `memory=m` keeps the last m pairs:
    4 n m numbers and operations a product, O(n m²) an update. `initial` is c in H₀ = c I; None is sᵀy / yᵀy of the
    first pair (with limited memory, of the latest), and 1 before there is one. (Nocedal and Wright 2006, equations 6.20
    and 7.20.)

    By duality the same classes approximate the Hessian B itself: exchange s and y, and BFGS with DFP.
    """

    symmetric = True
    scales: ClassVar[bool] = True
    """Whether H₀ takes its scale from a pair when `initial` is None."""

    def __init__(self, space: Space, *, memory: int | None = None, initial: float | None = None) -> None:
        super().__init__(space)
        if memory is not None and (isinstance(memory, bool) or not isinstance(memory, int) or memory < 1):
            raise ValueError(f"Expected memory=None or a number of pairs of at least 1, got {memory!r}.")
        if initial is not None and not (initial > 0 and math.isfinite(initial)):
            raise ValueError(f"Expected a finite initial > 0, got {initial}.")
        self.memory = memory
        self.initial = initial
        self.reset()

    def reset(self) -> None:
        """Forget all pairs."""
        self.scale = 1.0 if self.initial is None else self.initial
        self.pairs: deque[tuple[Tensor, Tensor]] = deque(maxlen=self.memory)
        self.accepted = 0
        self._terms_kept: list[Terms] = []
        self._matrix: Tensor | None = None

    @abstractmethod
    def _safeguard(self, s: Tensor, y: Tensor) -> tuple[Tensor, SecantUpdate]:
        """s, damped where the method damps, and whether the pair may be used."""

    @abstractmethod
    def _terms(self, s: Tensor, y: Tensor, u: Tensor) -> Terms:
        """The update by a pair that passed, given u = H y."""

    @property
    def tolerance(self) -> float:
        """Cosines below this count as zero."""
        return max(1e-8, 8 * torch.finfo(self.dtype).eps)

    def update(self, s: Tensor, y: Tensor) -> SecantUpdate:
        """Take in a step s [n] and the change of the gradient y [n] over it; says whether the pair was used.

        Raises ValueError where s or y is not finite, or does not fit the space.
        """
        for name, vector in (("s", s), ("y", y)):
            self.domain.check(vector, dims=(1,))
            if not bool(torch.isfinite(vector).all()):
                raise ValueError(f"Expected a finite {name}, got one with NaN or infinity.")
        if not (float(s @ s) > 0 and float(y @ y) > 0):
            return SecantUpdate(False, False, "the square of the step or of the change of the gradient is zero")
        s, verdict = self._safeguard(s, y)
        if verdict.accepted:
            self.accepted += 1
            if self.memory is None:
                self._update_matrix(s, y)
            else:
                self.pairs.append((s.clone(), y.clone()))
                self._remember()
        return verdict

    def state(self) -> dict[str, Any]:
        """What has been learned, as copies that `load_state` takes."""
        matrix = None if self._matrix is None else self._matrix.clone()
        pairs = [(s.clone(), y.clone()) for s, y in self.pairs]
        return {
            "matrix": matrix,
            "pairs": pairs,
            "scale": self.scale,
            "initial": self.initial,
            "accepted": self.accepted,
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Go on from a `state`, as the approximation it was taken from would have."""
        self.reset()
        self.initial, self.scale, self.accepted = state["initial"], state["scale"], state["accepted"]
        self._matrix = None if state["matrix"] is None else state["matrix"].to(self.device, copy=True)
        self.pairs.extend((s.to(self.device, copy=True), y.to(self.device, copy=True)) for s, y in state["pairs"])
        if self.pairs:
            self._remember()

    def _update_matrix(self, s: Tensor, y: Tensor) -> None:
        if self._matrix is None:
            if self.initial is None and self.scales:
                self.scale = float(s @ y) / float(y @ y)
            self._matrix = self.scale * torch.eye(self.shape[0], dtype=self.dtype, device=self.device)
        w, core = self._terms(s, y, self._matrix @ y)
        update = w @ core @ w.T
        self._matrix += (update + update.T) / 2

    def _remember(self) -> None:
        """Replay the pairs in memory on H₀."""
        if self.initial is None and self.scales:
            s, y = self.pairs[-1]
            self.scale = float(s @ y) / float(y @ y)
        self._terms_kept = []
        for s, y in self.pairs:
            self._terms_kept.append(self._terms(s, y, self._apply(y.unsqueeze(1)).squeeze(1)))

    def _apply(self, x: Tensor) -> Tensor:
        if self._matrix is not None:
            return self._matrix @ x
        out = self.scale * x
        for w, core in self._terms_kept:
            out = out + w @ (core @ (w.T @ x))
        return out

    def _transpose(self) -> LinearOperator:
        return self
