"""What all of quadric's optimisers share: torch's interface, closures, groups, refusal of bad steps, exact state."""

from __future__ import annotations

import math
import warnings
from abc import abstractmethod
from collections.abc import Callable, Iterable, Sequence
from copy import copy
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from quadric.core.errors import ConvergenceError, StepRejected
from quadric.core.precision import autocast_for_models_alone
from quadric.objective.closure import Closure
from quadric.objective.objective import Objective

MAX_REJECTIONS = 10
"""Rejected steps in a row after which an optimiser gives up."""


@dataclass(frozen=True)
class StepReport:
    """What one step did; quantities that the step did not measure are None.

    `predicted_reduction` is f minus the quadratic model at the step taken, `actual_reduction` the loss before minus the
    loss after it on the same batch; both count the weight decay. `products` counts passes through the model: tangent
    passes and reverse passes beyond one gradient, and extra forward passes.
    """

    loss: float
    damping: float | None = None
    momentum: float | None = None
    step_size: float | None = None
    predicted_reduction: float | None = None
    actual_reduction: float | None = None
    products: int = 0
    rejected: bool = False
    reason: str | None = None

    def numbers(self) -> dict[str, float]:
        """What was measured, by name: for a logger."""
        return {name: float(value) for name, value in vars(self).items() if value is not None and name != "reason"}


class Rejection(Exception):
    """Raised inside a step to refuse it; `loss` is what the step returns."""

    def __init__(self, reason: str, loss: Tensor) -> None:
        super().__init__(reason)
        self.reason = reason
        self.loss = loss


@dataclass
class Weights:
    """The tensors a step moves, with the settings of their groups, in the order of the objective's parameters.

    `moved` are the positions among the objective's parameters that belong to this optimiser; the others stay.
    """

    tensors: list[Tensor]
    lr: list[float]
    weight_decay: list[float]
    moved: list[int]

    @property
    def uniform(self) -> bool:
        """Whether all groups have the same η."""
        return len(set(self.lr)) == 1

    def spread(self, vector: Sequence[Tensor], parameters: Sequence[Tensor]) -> list[Tensor]:
        """A vector over the moved tensors as one over all of the objective's parameters, zero elsewhere."""
        if len(self.moved) == len(parameters):
            return list(vector)
        full = [torch.zeros_like(p) for p in parameters]
        for i, v in zip(self.moved, vector, strict=True):
            full[i] = v
        return full

    def pick(self, vector: Sequence[Tensor]) -> list[Tensor]:
        """The moved tensors' part of a vector over all parameters."""
        return [vector[i] for i in self.moved]

    def decay_loss(self) -> float:
        """½ Σ ω ‖w‖²."""
        return sum(
            0.5 * o * float(w.detach().double().square().sum())
            for o, w in zip(self.weight_decay, self.tensors, strict=True)
            if o
        )


class CurvatureOptimizer(torch.optim.Optimizer):
    """Base of quadric's optimisers: `step(objective.on(batch))`.

    A subclass writes `_advance(closure, weights)`, which changes parameters and state and returns the loss before the
    step with a report, or raises `Rejection`; and `_raise_damping`. Numbers that belong to the whole optimiser are
    named in `_scalars` and travel in `state_dict` as they are.
    """

    _scalars: tuple[str, ...] = ()

    def __init__(self, params: Objective | Iterable[Any], defaults: dict[str, Any]) -> None:
        _check_settings(defaults)
        if isinstance(params, Objective):
            params = list(params.parameters)
        super().__init__(params, defaults)
        self.last_step: StepReport | None = None
        self._rejections = 0

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """As torch's; raises ValueError for an lr or weight_decay that is negative or not finite."""
        _check_settings({**self.defaults, **param_group})
        super().add_param_group(param_group)

    def __getstate__(self) -> dict[str, Any]:
        """Everything, so that copies and pickles are complete (schedulers put a `step` of their own on the object)."""
        return {name: value for name, value in self.__dict__.items() if name != "step"}

    @abstractmethod
    def _advance(self, closure: Closure, weights: Weights) -> tuple[Tensor, StepReport]:
        """One step."""

    def _raise_damping(self) -> None:
        """Called after a rejected step."""

    def step(self, closure: Closure | Callable[[], Any] | None = None) -> Tensor:  # type: ignore[override]
        """One step on `objective.on(batch)`; returns the loss before it, a 0-d tensor. `.grad` is left as None.

        Under autocast the model and its loss run as autocast has them, the step in full precision. Raises TypeError for
        a closure that is not an objective's (nor a `partial` that holds one, as Lightning hands it on), ValueError for
        one that an earlier step has used, ConvergenceError after ten rejected steps in a row.
        """
        if isinstance(closure, partial):
            closure = next((held for held in closure.args if isinstance(held, Closure)), closure)
        if not isinstance(closure, Closure):
            raise TypeError(
                f"{type(self).__name__} needs the network's outputs, so it takes an objective's closure, not "
                f"{type(closure).__name__}. The two lines are:\n"
                "    objective = quadric.Objective(model, loss_fn)\n"
                "    optimizer.step(objective.on((inputs, targets)))"
            )
        if closure.spent:
            raise ValueError(
                "This closure belongs to an earlier step; make one per step: optimizer.step(objective.on(batch))."
            )
        weights = self._weights(closure.objective)
        for w in weights.tensors:
            w.grad = None
        try:
            with autocast_for_models_alone(weights.tensors[0].device):
                loss, report = self._advance(closure, weights)
        except Rejection as rejection:
            return self._reject(closure, rejection)
        except BaseException:
            closure.restore_buffers()
            raise
        finally:
            closure.spent = True
        self._rejections = 0
        self.last_step = report
        return loss

    def _reject(self, closure: Closure, rejection: Rejection) -> Tensor:
        closure.restore_buffers()
        self._raise_damping()
        self._rejections += 1
        reason = rejection.reason
        problem = closure.data_problem()
        if problem is not None:
            reason += f" ({problem})"
        self.last_step = StepReport(float(rejection.loss), rejected=True, reason=reason)
        if self._rejections >= MAX_REJECTIONS:
            raise ConvergenceError(
                f"{MAX_REJECTIONS} steps in a row were rejected, the last because {reason}. Parameters are as they "
                "were before the first of them; look at the data, the loss or the starting weights."
            )
        warnings.warn(StepRejected(f"Step rejected: {reason}. Parameters and state are unchanged."), stacklevel=3)
        return rejection.loss

    def _weights(self, objective: Objective) -> Weights:
        position = {id(p): i for i, p in enumerate(objective.parameters)}
        found: list[tuple[int, Tensor, float, float]] = []
        for group in self.param_groups:
            for p in group["params"]:
                i = position.get(id(p))
                if i is not None:
                    found.append((i, p, float(group["lr"]), float(group["weight_decay"])))
                elif p.requires_grad:
                    raise ValueError(
                        f"The optimiser holds a parameter of shape {list(p.shape)} that the closure's objective does "
                        "not: make both from the same model, or choose the same params."
                    )
        if not found:
            raise ValueError("None of the optimiser's parameters belongs to the closure's objective.")
        found.sort(key=lambda item: item[0])
        indices, tensors, lr, decay = zip(*found, strict=True)
        return Weights(list(tensors), list(lr), list(decay), list(indices))

    def state_dict(self) -> dict[str, Any]:
        """torch's state and, under "quadric", the numbers of the whole optimiser and the CPU's random state."""
        state = super().state_dict()
        numbers = {name: getattr(self, name) for name in (*self._scalars, "_rejections")}
        state["quadric"] = {**numbers, "random": torch.get_rng_state()}
        return state

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue where `state_dict` was taken, bit for bit: torch's global random state on the CPU goes back as well.

        Raises ValueError for the state of another kind of optimiser.
        """
        numbers = state_dict.get("quadric")
        expected = {*self._scalars, "_rejections", "random"}
        if numbers is None or set(numbers) != expected:
            raise ValueError(
                f"Expected a state of {type(self).__name__} (with {sorted(expected)}), got one with "
                f"{sorted(numbers) if numbers is not None else 'no quadric entry'}."
            )
        for name in expected - {"random"}:
            setattr(self, name, copy(numbers[name]))
        super().load_state_dict({k: v for k, v in state_dict.items() if k != "quadric"})
        self._own(state_dict)
        torch.set_rng_state(numbers["random"].cpu())

    def _own(self, state_dict: dict[str, Any]) -> None:
        """State tensors as saved, in memory of their own: torch shares them and casts them to the parameters' dtype."""
        saved = [i for group in state_dict["param_groups"] for i in group["params"]]
        tensors = [p for group in self.param_groups for p in group["params"]]
        for i, p in zip(saved, tensors, strict=True):
            for name, value in state_dict["state"].get(i, {}).items():
                if isinstance(value, Tensor):
                    self.state[p][name] = value.detach().to(p.device, copy=True)


def _check_settings(settings: dict[str, Any]) -> None:
    for name in ("lr", "weight_decay"):
        value = settings[name]
        if not isinstance(value, (int, float, Tensor)) or not math.isfinite(value) or value < 0:
            raise ValueError(f"Expected {name} to be a finite number ≥ 0, got {value!r}.")
