"""The quadratic model of one step with an operator for its curvature, in flat vectors."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from quadric.core.errors import unknown_name
from quadric.curvature import GGN, KFAC, EmpiricalFisher, Fisher, Hessian
from quadric.linalg import diagonal, low_rank
from quadric.objective.closure import Closure
from quadric.objective.objective import Objective
from quadric.operators import Diagonal, LinearOperator, block_diagonal, identity_like
from quadric.optim.model import LocalModel
from quadric.optim.optimizer import Rejection, Weights

CURVATURES: dict[str, Callable[..., LinearOperator]] = {
    "ggn": GGN,
    "hessian": Hessian,
    "fisher": Fisher,
    "empirical-fisher": EmpiricalFisher,
}
_KRONECKER = {"ggn": "exact", "fisher": "mc", "empirical-fisher": "empirical"}
"""Which vectors K-FAC takes for a curvature."""

STRUCTURES = ("full", "diagonal", "block-diagonal", "low-rank", "kronecker")


@dataclass(frozen=True)
class OperatorModel:
    """m(s) = f + gᵀs + ½ sᵀ(C + diag ω)s over the moved tensors, g the gradient of f + ½ ω‖w‖².

    C is taken on the step's own batches, with the step's own random numbers. `objective` is that of the moved tensors.
    """

    closure: Closure
    weights: Weights
    objective: Objective
    loss: Tensor
    gradient: Tensor

    @classmethod
    def of(cls, closure: Closure, weights: Weights) -> OperatorModel:
        """Evaluate f and g. Raises Rejection where they are not finite. Cost: one gradient."""
        model = LocalModel(closure, weights, 0.0)
        gradient, _ = model.start(None)
        if not bool(torch.isfinite(model.loss)):
            raise Rejection("the loss is not finite", model.loss)
        objective = closure.objective.narrowed(weights.moved)
        flat = objective.space.flatten(gradient)
        if not math.isfinite(inner(flat, flat)):
            raise Rejection("the gradient, or the square of its norm, is not finite", model.loss)
        return cls(closure, weights, objective, model.loss, flat)

    def structured(self, curvature: str, structure: str, *, rank: int = 20, seed: int = 0) -> LinearOperator:
        """C + diag ω in one of the `STRUCTURES`. `seed` is for what is sampled: Fisher's targets, probes."""
        if structure == "kronecker":
            factored = KFAC(self.objective, list(self.closure.batches), fisher=_KRONECKER[curvature], seed=seed)
            return self.decayed(factored)
        plain = self.curvature(curvature, seed)
        if structure == "low-rank":
            return self.decayed(low_rank(plain, min(rank, plain.shape[0]), "randomized", seed=seed))
        whole = self.decayed(plain)
        if structure == "diagonal":
            return diagonal(whole, seed=seed)
        return block_diagonal(whole) if structure == "block-diagonal" else whole

    def curvature(self, name: str, seed: int = 0) -> LinearOperator:
        """C, without the weight decay."""
        batches = self.closure.batches
        data: Any = batches[0] if len(batches) == 1 else list(batches)
        sampled = name == "fisher"  # whose draws must differ from step to step, even where the model draws nothing
        return CURVATURES[name](self.objective, data, seed=seed if sampled else self.closure.random)

    def decayed(self, operator: LinearOperator) -> LinearOperator:
        """The operator with the weight decay on its diagonal."""
        decay = self.weights.weight_decay
        if not any(decay):
            return operator
        if len(set(decay)) == 1:
            return operator + decay[0] * identity_like(operator)
        space = self.objective.space
        entries = [torch.full((n,), o, dtype=space.dtype) for n, o in zip(space.numels, decay, strict=True)]
        return operator + Diagonal(torch.cat(entries).to(space.device), space)

    def scaled(self, direction: Tensor) -> Tensor:
        """The step η ∘ d, η by group."""
        if self.weights.uniform:
            return self.weights.lr[0] * direction
        parts = self.objective.space.unflatten(direction)
        return self.objective.space.flatten([lr * p for lr, p in zip(self.weights.lr, parts, strict=True)])

    def quadratic(self, operator: LinearOperator, vector: Tensor) -> float:
        """vᵀA v. Raises Rejection where it is not finite. Cost: one product."""
        value = inner(vector, operator @ vector)
        if not math.isfinite(value):
            raise Rejection("the curvature is not finite", self.loss)
        return value

    @property
    def rounding(self) -> float:
        """Differences of F within this are rounding errors."""
        return 8 * torch.finfo(self.loss.dtype).eps * abs(float(self.loss) + self.weights.decay_loss())

    def change(self, operator: LinearOperator, step: Tensor) -> float:
        """m(s) − f = gᵀs + ½ sᵀA s. Cost: one product."""
        return inner(self.gradient, step) + 0.5 * self.quadratic(operator, step)


def inner(a: Tensor, b: Tensor) -> float:
    """aᵀb, summed in float64."""
    return float(torch.sum(a * b, dtype=torch.float64))


def check_combination(curvature: str, structure: str) -> None:
    """Raise ValueError for names that there are none of, and for a Kronecker structure of the exact Hessian."""
    if curvature not in CURVATURES:
        raise unknown_name("curvature", curvature, CURVATURES)
    if structure not in STRUCTURES:
        raise unknown_name("structure", structure, STRUCTURES)
    if structure == "kronecker" and curvature not in _KRONECKER:
        raise ValueError(
            "The exact Hessian of a layer is no Kronecker product of second moments, so curvature='hessian' has no "
            "structure='kronecker'. Use curvature='ggn', 'fisher' or 'empirical-fisher' with it, or another structure."
        )
