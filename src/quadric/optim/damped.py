"""What the optimisers with a relative damping share: what λ looks at, and its state."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

from torch import Tensor

from quadric.objective.objective import Objective
from quadric.operators import LinearOperator
from quadric.optim.operator_model import OperatorModel, inner
from quadric.optim.optimizer import CurvatureOptimizer
from quadric.optim.relative_damping import RelativeDamping


class DampedOptimizer(CurvatureOptimizer):
    """Base of the optimisers whose λ is a `RelativeDamping`: None for a share of the curvature, or a first number."""

    _scalars = ("steps", "_state")

    def __init__(
        self, params: Objective | Iterable[Any], lr: float, damping: float | None, weight_decay: float, adapt: bool
    ) -> None:
        if damping is not None and not (math.isfinite(damping) and damping >= 0):
            raise ValueError(f"Expected damping to be a finite number ≥ 0, got {damping!r}.")
        if damping is None and not adapt:
            raise ValueError("With adapt=False λ stays as given: give damping=.")
        super().__init__(params, {"lr": lr, "weight_decay": weight_decay})
        self.adapt = adapt
        self.damping = RelativeDamping(damping, adapt)
        self.steps = 0

    def _look(self, model: OperatorModel, operator: LinearOperator) -> None:
        """Show the damping the curvature along the gradient, and the model along the last step. Cost: two products."""
        g = model.gradient
        squared = inner(g, g)
        if squared > 0:
            self.damping.see(model.quadratic(operator, g) / squared)
        last = self._last(model)
        if last is not None:
            self.damping.compare(inner(g, last), model.quadratic(operator, last))

    def _last(self, model: OperatorModel) -> Tensor | None:
        """The last step."""
        if not all("step" in self.state[w] for w in model.weights.tensors):
            return None
        return model.objective.space.flatten([self.state[w]["step"] for w in model.weights.tensors])

    def _stepped(self, model: OperatorModel, step: Tensor) -> None:
        """Take note of the step that was taken."""
        for w, d in zip(model.weights.tensors, model.objective.space.unflatten(step), strict=True):
            self.state[w]["step"] = d.clone()
        self.steps += 1

    def _raise_damping(self) -> None:
        self.damping.increase()

    @property
    def _state(self) -> dict[str, Any]:
        return dict(vars(self.damping))

    @_state.setter
    def _state(self, state: dict[str, Any]) -> None:
        vars(self.damping).update(state)
