"""The gradient of one batch made ready for Hessian products, H v = ∂g/∂w · v.

Two ways, both exact. The tape of the forward and of the reverse pass carries tangents through both, by the same rules
as every tangent pass; it is the faster one wherever each call has a rule of its own. Else torch's double backward.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from quadric.core.passes import PASSES
from quadric.core.randomness import RandomState, own_generators
from quadric.objective.batch import Batch
from quadric.objective.isolation import as_written, twice_differentiable, untouched
from quadric.objective.refusal import explained
from quadric.objective.tape import Tape

if TYPE_CHECKING:
    from quadric.objective.objective import Objective

Vector = Sequence[Tensor]


class TapedGradient:
    """The gradient of f on one batch with the tape of its forward and reverse pass, for Hessian products.

    H v is the tangent of the gradient along v: one walk over both passes. `hole` says why it can't be had this way.
    """

    route = "tape"

    def __init__(self, objective: Objective, batch: Batch, tape: Tape, outputs: Any, attached: Tensor) -> None:
        self.objective = objective
        self.batch = batch
        self.parameters = objective.parameters
        self._tape = tape
        self.loss = attached.detach()
        PASSES.backward += 1
        with self._tape:
            self._tape.reverse()
            slopes = torch.autograd.grad(attached, self.parameters, allow_unused=True) if attached.requires_grad else ()
        self.weight = objective.weight(outputs, batch)
        self._used = [p for p, s in zip(self.parameters, slopes, strict=True) if s is not None] if slopes else []
        self._gradient = [s for s in slopes if s is not None]
        self._tape.finish(self._gradient)

    @property
    def hole(self) -> str | None:
        """Why there are no products, None if there are: a hole in the tape, or calls without a rule of their own."""
        slow = sorted({str(call.func) for call in self._tape.calls if not call.rule.own})
        return self._tape.hole or (f"no tangent rule for {', '.join(slow)}" if slow else None)

    def gradient(self) -> list[Tensor]:
        """g."""
        found = iter(self._gradient)
        used = {id(p) for p in self._used}
        return [next(found) if id(p) in used else torch.zeros_like(p) for p in self.parameters]

    def hessian(self, v: Vector, *, retain: bool = True) -> list[Tensor]:
        """H v."""
        PASSES.curvature += 1
        pushed = iter(self._tape.jvp(list(zip(self.parameters, v, strict=True))))
        used = {id(p) for p in self._used}
        out = [next(pushed) if id(p) in used else None for p in self.parameters]
        return [torch.zeros_like(p) if t is None else t for t, p in zip(out, self.parameters, strict=True)]


class GradientGraph:
    """The gradient of f on one batch with its graph, for Hessian products by double backward.

    Attention takes the kernel that can be differentiated twice.
    """

    route = "double backward"

    def __init__(self, objective: Objective, batch: Batch) -> None:
        self.objective = objective
        self.batch = batch
        self.parameters = objective.parameters
        self.hole: str | None = None
        """Why the tape could not be had, where it was tried."""
        with torch.enable_grad(), twice_differentiable(), as_written():
            outputs = objective.outputs(batch)
            attached = objective.loss_at(outputs, batch)
            self.weight = objective.weight(outputs, batch)
            self.loss = attached.detach()
            PASSES.backward += 1
            self._slopes: Sequence[Tensor] = (
                torch.autograd.grad(
                    attached, self.parameters, create_graph=True, allow_unused=True, materialize_grads=True
                )
                if attached.requires_grad
                else [torch.zeros_like(p) for p in self.parameters]
            )

    def gradient(self) -> list[Tensor]:
        """g."""
        return [s.detach() for s in self._slopes]

    def hessian(self, v: Vector, *, retain: bool = True) -> list[Tensor]:
        """H v = ∂(gᵀv)/∂w."""
        pairs = [(s, t) for s, t in zip(self._slopes, v, strict=True) if s.requires_grad]
        if not pairs:
            return [torch.zeros_like(p) for p in self.parameters]
        PASSES.curvature += 1
        with explained(self.objective, self.batch, "second-order"):
            out = torch.autograd.grad(
                [s for s, _ in pairs],
                self.parameters,
                [t for _, t in pairs],
                retain_graph=retain,
                allow_unused=True,
                materialize_grads=True,
            )
        return list(out)


def differentiated(objective: Objective, batch: Batch, *, taped: bool = True) -> TapedGradient | GradientGraph:
    """The gradient of one batch made ready for Hessian products: by the tape, else by double backward.

    Where the tape has a hole the model is evaluated a second time, with the same random numbers and on copies of its
    buffers. `taped=False` spares the attempt. Raises NotImplementedError where torch's second derivative is wrong.
    """
    if not taped:
        return GradientGraph(objective, batch)
    random = RandomState.now(objective.space.device, own_generators(objective.model))
    found = _recorded(objective, batch)
    if found.hole is None:
        return found
    if "_weight_norm_interface" in found.hole:
        raise NotImplementedError(
            "torch's second derivative of weight_norm is wrong on the CPU (not even symmetric), so there is no "
            "exact Hessian. Gauss–Newton products (quadric.GGN) are right; or write the normalisation out."
        )
    with untouched(objective.model, random):
        graph = GradientGraph(objective, batch)
    graph.hole = found.hole
    return graph


def _recorded(objective: Objective, batch: Batch) -> TapedGradient:
    """The tape's gradient, which may have a hole."""
    tape = Tape(reversible=True)
    with torch.enable_grad(), twice_differentiable():
        with tape:
            outputs = objective.outputs(batch)
            attached = objective.loss_at(outputs, batch)
        return TapedGradient(objective, batch, tape, outputs, attached)
