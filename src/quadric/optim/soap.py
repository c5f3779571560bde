"""SOAP: Adam in the eigenbasis of Shampoo's preconditioner."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from quadric.objective.objective import Objective
from quadric.optim.adaptive import AdaptiveOptimizer, Seen, check_interval
from quadric.optim.model import Vector
from quadric.optim.optimizer import Weights
from quadric.optim.sides import Sides, along, check_max_dim, eigenvectors, fold, folded, second_moment


class SOAP(AdaptiveOptimizer):
    """SOAP (Vyas, Morwani, Zhao, Kwun, Shapira, Brandfonbrener, Janson, Kakade, 2024), algorithm 3.

    For a weight matrix with gradient G, and Q_L, Q_R the eigenvectors of the running means L of GGᵀ and R of GᵀG:

        G′ = Q_Lᵀ G Q_R,    M′ ← β₁ M′ + (1 − β₁) G′,    V ← β₂ V + (1 − β₂) G′ ∘ G′
        w ← (1 − ηω) w − η Q_L [M̂′ / (√V̂ + ε)] Q_Rᵀ

    which is the Kronecker product in its eigenbasis, (Q_L ⊗ Q_R) diag(1 / (√V̂ + ε)) (Q_L ⊗ Q_R)ᵀ, applied to the mean
    gradient. L and R move at every step, with β₂. Every `interval` steps Q is refreshed by one step of orthogonal
    iteration, the Q of the QR factorisation of LQ, its columns ordered by qᵀLq first; V keeps its place and M′ is
    rotated along. The first step makes Q from the only gradient there is, in which it is diagonal; that step itself is
    Adam's.

    Sides larger than `max_dim` keep the identity for a basis, and so do parameters with one side (biases, gains) unless
    `vectors`; without any basis this is Adam. A convolution's weight is [out, in·h·w] (`sides.folded`).

    Args:
        params: an `Objective`, or parameters or group dicts as torch takes them; groups may set `lr`, `weight_decay`
            and `betas`.
        lr: η.
        betas: β₁ and β₂.
        eps: ε.
        weight_decay: ω, decoupled from the gradient.
        interval: steps between refreshes of Q.
        max_dim: the largest side that gets a basis.
        vectors: whether parameters with one side get one too.

    State: two buffers per parameter, and two matrices for each side with a basis. Cost for a matrix [m, n]: a gradient
    and 6mn(m + n) operations, a refresh some 5(m³ + n³). Raises ValueError for settings out of range.
    """

    def __init__(
        self,
        params: Objective | Iterable[Any],
        lr: float = 3e-3,
        betas: tuple[float, float] = (0.95, 0.95),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        *,
        interval: int = 10,
        max_dim: int = 1024,
        vectors: bool = False,
    ) -> None:
        check_interval(interval)
        check_max_dim(max_dim)
        super().__init__(params, lr, betas, eps, weight_decay)
        self.interval = interval
        self.max_dim = max_dim
        self.vectors = vectors

    def _directions(self, weights: Weights, seen: Seen) -> Vector:
        folds = [fold(g, self.max_dim) for g in seen.gradient]
        first = [not self.state[w] for w in weights.tensors]
        betas = self._betas(weights, 1)
        for w, g, beta in zip(weights.tensors, folds, betas, strict=True):
            self._note(w, g, beta)
        bases = [self._each(w, "basis") for w in weights.tensors]
        rotated = [along(g, q, transposed=True) for g, q in zip(folds, bases, strict=True)]
        means, mean_shares = self._averaged(weights.tensors, "gradient", rotated, self._betas(weights, 0))
        squares, square_shares = self._averaged(
            weights.tensors, "square", list(torch._foreach_mul(rotated, rotated)), betas
        )
        scales = list(torch._foreach_sqrt(squares))
        torch._foreach_div_(scales, [math.sqrt(share) for share in square_shares])
        torch._foreach_add_(scales, self.eps)
        inner = list(torch._foreach_div(means, mean_shares))
        torch._foreach_div_(inner, scales)
        directions = [
            (g / (g.abs() + self.eps) if new else along(d, q)).reshape(w.shape)
            for w, g, d, q, new in zip(weights.tensors, folds, inner, bases, first, strict=True)
        ]
        for w in weights.tensors:
            if self.state[w]["gradient_count"] % self.interval == 0:
                self._refresh(self.state[w])
        return directions

    def _note(self, w: Tensor, g: Tensor, beta: float) -> None:
        """Take a gradient into the second moments of the sides; the first makes the bases."""
        state = self.state[w]
        for i, n in enumerate(g.shape):
            if n > self.max_dim or (g.dim() == 1 and not self.vectors):
                continue
            moment = second_moment(g, i)
            if f"moment_{i}" in state:
                state[f"moment_{i}"].lerp_(moment, 1 - beta)
            else:
                state[f"moment_{i}"] = moment
                state[f"basis_{i}"] = eigenvectors(moment)

    def _each(self, w: Tensor, name: str) -> Sides:
        """The matrix of that name for each side."""
        return [self.state[w].get(f"{name}_{i}") for i in range(len(folded(w.shape, self.max_dim)))]

    def _refresh(self, state: dict[str, Any]) -> None:
        """One step of orthogonal iteration for each basis."""
        for i in range(state["square"].dim()):
            if f"basis_{i}" not in state:
                continue
            old: Tensor = state[f"basis_{i}"]
            image = state[f"moment_{i}"] @ old
            order = (old * image).sum(0).argsort(descending=True)
            new: Tensor = torch.linalg.qr(image[:, order]).Q
            state[f"basis_{i}"] = new
            state["square"] = state["square"].index_select(i, order)
            back, forth = ([q if j == i else None for j in range(state["square"].dim())] for q in (old, new))
            state["gradient"] = along(along(state["gradient"], back), forth, transposed=True)
