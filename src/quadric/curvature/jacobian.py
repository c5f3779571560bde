"""The Jacobian of a network's outputs in its parameters."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from quadric.core.space import Space
from quadric.curvature.retained import Retained
from quadric.objective.batch import Batch, take_apart
from quadric.objective.linearization import Linearization
from quadric.objective.objective import Objective
from quadric.operators.algebra import Transposed
from quadric.operators.operator import LinearOperator


class Jacobian(LinearOperator):
    """J = ∂ vec(outputs)/∂w, [outputs flattened, parameters], at the parameters as they are at each product.

    `inputs` is what the model takes: a tensor, a tuple of positional arguments or a mapping of keywords. The columns
    are the objective's parameters: for one layer give its names as `params=`, or an objective over that module alone.
    For a function of a tensor, `Jacobian(Objective.of(fun, x))`; with `fun` a layer that is the Jacobian in its input.
    The loss plays no part. `J @ v` has the outputs in the order of `outputs.flatten()`; `J.codomain.shapes[0]` is
    their shape.

    The linearisation is kept from the second product on while nothing it depends on has changed; the model draws the
    random numbers of `seed`; buffers, mode and `.grad` stay as they are. Cost: one forward pass now; then `J @ v` two
    forward passes in matrix products, `J.T @ u` two, a first product one more. Raises TypeError where the outputs are
    not one floating-point tensor. Reference: Griewank and Walther (2008), Evaluating derivatives, chapter 3.
    """

    def __init__(self, objective: Objective, inputs: Any = None, *, seed: int = 0) -> None:
        if not isinstance(objective, Objective):
            raise TypeError(
                f"Expected a quadric.Objective, got {type(objective).__name__}: "
                "quadric.Objective(model, loss_fn), or Objective.of(fun, x) for a plain function."
            )
        self.objective = objective
        self.inputs = inputs
        self.seed = seed
        self._bare = _without_loss(objective)
        self._batch = Batch((), None, 1) if inputs is None else take_apart((inputs, None))
        self._retained: Retained[Linearization] = Retained()
        with torch.no_grad():
            local, _ = Retained[Linearization]().get(self._bare, self._batch, self._linearise, seed, once=True)
        super().__init__(objective.space, _outputs_space(local.outputs))

    @property
    def domain(self) -> Space:
        """The objective's space, as it is now."""
        return self.objective.space

    def _linearise(self) -> Linearization:
        return Linearization(self._bare, self._batch)

    def _current(self, once: bool) -> tuple[Linearization, bool]:
        local, retained = self._retained.get(self._bare, self._batch, self._linearise, self.seed, once)
        if local.outputs.shape != self._codomain.shapes[0]:
            raise ValueError(
                f"The outputs were shaped {list(self._codomain.shapes[0])} when this Jacobian was made and are now "
                f"{list(local.outputs.shape)}; make a new one."
            )
        return local, retained

    def _apply(self, x: Tensor) -> Tensor:
        space = self.domain
        columns = [space.unflatten(column) for column in x.unbind(1)]
        local, _ = self._current(once=len(columns) == 1)
        return torch.stack([self.codomain.flatten([local.jvp(v)]) for v in columns], dim=1)

    def _apply_transposed(self, u: Tensor) -> Tensor:
        space = self.domain
        columns = [self.codomain.unflatten(column)[0] for column in u.unbind(1)]
        local, retained = self._current(once=len(columns) == 1)
        return torch.stack([space.flatten(local.vjp(v, retain=retained)) for v in columns], dim=1)

    def _transpose(self) -> LinearOperator:
        return Transposed(self)


def _without_loss(objective: Objective) -> Objective:
    """The same model and parameters, with a loss that only looks at the outputs' type."""
    return Objective(objective.model, _nothing, params=objective.names, prediction=objective.prediction)


def _nothing(outputs: Any, targets: None) -> Tensor:
    if not isinstance(outputs, Tensor) or not outputs.is_floating_point():
        got = f"a tensor of {outputs.dtype}" if isinstance(outputs, Tensor) else type(outputs).__name__
        raise TypeError(
            f"A Jacobian needs the outputs as one floating-point tensor, got {got} from the model. "
            "Say which part is the prediction: Objective(..., prediction=lambda out: out.logits)."
        )
    return outputs.detach().new_zeros(())


def _outputs_space(outputs: Tensor) -> Space:
    return Space(("outputs",), (outputs.shape,), (outputs.dtype,), outputs.device, ("",))
