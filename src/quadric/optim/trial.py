"""Trying steps from where an optimiser stands: the objective there, and the way back."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from quadric.objective.closure import Closure
from quadric.optim.model import LocalModel, Vector
from quadric.optim.optimizer import Weights


class Trial:
    """F(s) = f(w + s) + ½ ω‖w + s‖² on one closure, w being the weights when this was made.

    Every evaluation starts from a copy of w, on the same batch with the same random numbers, and leaves buffers alone.
    Weights move through `.data`, so that what was linearised at w stays usable once they are back; `keep` ends the
    trial where it is. Memory: one copy of the moved tensors. If anything is raised, the weights are w again.
    """

    def __init__(self, closure: Closure, weights: Weights) -> None:
        self.closure = closure
        self.weights = weights
        self.before = [w.detach().clone() for w in weights.tensors]
        self._data = [w.data for w in weights.tensors]
        self.passes = 0
        """Forward passes so far, and reverse passes."""

    def move(self, step: Sequence[Tensor], scale: float = 1.0) -> None:
        """w + scale · s."""
        self.back()
        torch._foreach_add_(self._data, list(step), alpha=scale)

    def back(self) -> None:
        """w."""
        torch._foreach_copy_(self._data, self.before)

    def keep(self) -> None:
        """The weights stay as they are: from now on autograd knows that they have changed."""
        torch.autograd.graph.increment_version(self.weights.tensors)

    def value(self, step: Sequence[Tensor], scale: float = 1.0) -> float:
        """F(scale · s), infinity where it is not finite; the weights stay there."""
        try:
            self.move(step, scale)
            self.passes += 1
            value = float(self.closure.value()) + self.weights.decay_loss()
        except BaseException:
            self.back()
            raise
        return value if math.isfinite(value) else math.inf

    def gradient(self, step: Sequence[Tensor], scale: float = 1.0) -> tuple[float, Vector]:
        """F(scale · s) and its gradient there; the weights stay there."""
        try:
            self.move(step, scale)
            self.passes += 3
            model = LocalModel(self.closure, self.weights, 0.0)
            gradient, _ = model.start(None)
        except BaseException:
            self.back()
            raise
        value = float(model.loss) + self.weights.decay_loss()
        return value if math.isfinite(value) else math.inf, gradient
