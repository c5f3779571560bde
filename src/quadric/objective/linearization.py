"""One batch, linearised: the engine behind every curvature product.

The model is run once, with autograd on, under a `Tape`. Then

    J v          a tangent pass over the tape                                (about 2 forward passes)
    H_ℓ u        the loss's Hessian, in closed form where known
    Jᵀ u         an ordinary vjp on the retained graph of the same forward   (about 2 forward passes)
    G v          = Jᵀ H_ℓ J v

Vectors are lists of tensors shaped like the parameters.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from copy import copy
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from quadric.core.passes import PASSES
from quadric.core.randomness import RandomState, replayed
from quadric.objective.batch import Batch
from quadric.objective.refusal import explained
from quadric.objective.tape import Tape

if TYPE_CHECKING:
    from quadric.objective.losses import Loss
    from quadric.objective.objective import Objective

Vector = Sequence[Tensor]
DETACHED = (
    "The loss does not depend on the model's outputs as autograd sees it, so it has no gradient: is there a detach(), "
    ".item(), argmax or torch.no_grad() in the loss function?"
)


class Linearization:
    """f(w + z) ≈ f + gᵀz + ½ zᵀCz on one batch, at the parameters of the moment it was made.

    `loss` is f (0-d, no graph), `outputs` the prediction. `taped=False` is for
    gradients alone. `route` says how tangents
    go: "tape", or "double reverse" (two reverse passes) when the tape has a hole, `hole` being the reason.
    """

    def __init__(self, objective: Objective, batch: Batch, *, taped: bool = True) -> None:
        self.objective = objective
        self.batch = batch
        self.parameters = objective.parameters
        self._tape = Tape()
        with torch.enable_grad():
            with self._tape if taped else nullcontext():
                outputs = objective.outputs(batch)
            formula = objective.loss is not None and objective.loss.closed_form
            self._before_loss = None if formula else RandomState.now(objective.space.device)
            self._attached = objective.loss_at(outputs, batch)
        self.loss = self._attached.detach()
        self.outputs: Tensor = outputs if isinstance(outputs, Tensor) else self._attached
        self._structured = "" if isinstance(outputs, Tensor) else type(outputs).__name__
        if taped:
            self._tape.finish([self.outputs])
        else:
            self._tape.hole = "no tape was asked for"
        self._weight: float | None = None
        self._checked = False
        self._loss_gradient: Tensor | None = None
        self._loss_hessian: Callable[[Tensor], Tensor] | None = None
        self._double_reverse: tuple[Tensor, list[Tensor]] | None = None

    @property
    def weight(self) -> float:
        """D_b: what the loss's mean divides by."""
        if self._weight is None:
            self._weight = self.objective.weight(self.outputs.detach(), self.batch)
        return self._weight

    @property
    def hole(self) -> str | None:
        """Why tangents do not go along the tape; None if they do."""
        return self._tape.hole

    @property
    def route(self) -> str:
        """How J v is computed."""
        return "tape" if self.hole is None else "double reverse"

    # ---- the loss as a function of the outputs

    @property
    def loss_gradient(self) -> Tensor:
        """∇ℓ: the gradient of the loss in the outputs."""
        if self._loss_gradient is None:
            if self.outputs.requires_grad and not self._attached.requires_grad:
                raise ValueError(DETACHED)
            (self._loss_gradient,) = (
                torch.autograd.grad(self._attached, self.outputs, retain_graph=True, materialize_grads=True)
                if self.outputs.requires_grad
                else (torch.zeros_like(self.outputs),)
            )
        return self._loss_gradient

    def loss_hessian(self, u: Tensor) -> Tensor:
        """H_ℓ u, u shaped like the outputs. Raises ValueError where the Gauss–Newton matrix is not defined."""
        if self._loss_hessian is None:
            loss = self.split()
            with self._as_before_loss():
                self._loss_hessian = loss.hessian(self.outputs, self.batch.targets)
        return self._loss_hessian(u)

    def split(self) -> Loss:
        """The loss as a function of the outputs. Raises ValueError or TypeError where there is no such thing."""
        loss = self.objective.loss
        if loss is None:
            raise ValueError(
                "The model returns its own loss, so there is no outputs → loss split and no Gauss–Newton matrix. "
                "Use quadric.Hessian, or give prediction= and a loss_fn."
            )
        if self._structured:
            raise TypeError(
                f"Gauss–Newton products need the prediction as one tensor, got {self._structured} from "
                "the model. Say which part is the prediction: Objective(..., prediction=lambda out: out.logits)."
            )
        if self.outputs.dim() == 0:
            raise ValueError(
                "A scalar output is the loss itself and has no Gauss–Newton matrix. Use quadric.Hessian, or return "
                "a vector of residuals r, which means ½‖r‖²."
            )
        if not self._checked:
            self._check_no_penalty()
            self._checked = True
        return loss

    def _as_before_loss(self) -> AbstractContextManager[None]:
        """Within the block a loss without a formula, evaluated again, draws the random numbers that it drew before."""
        return nullcontext() if self._before_loss is None else replayed(self._before_loss)

    def _check_no_penalty(self) -> None:
        """Raise ValueError where the loss holds w other than through the outputs. Parameters of its own may do so."""
        if self._before_loss is None:
            return
        with torch.enable_grad(), self._as_before_loss():
            alone = self.objective.loss_at(self.outputs.detach(), self.batch)
        if alone.requires_grad:
            slopes = torch.autograd.grad(alone, self.objective.parameters, allow_unused=True)
            if any(s is not None for s in slopes):
                raise ValueError(
                    "The loss function depends on trainable parameters other than through the model's outputs, so its "
                    "Gauss–Newton matrix is not defined. For an L2 penalty use the optimiser's weight_decay; for a "
                    "penalty of another kind use quadric.Hessian."
                )

    def narrowed(self, positions: Sequence[int]) -> Linearization:
        """The same tape and graph for vectors over the parameters at some positions alone."""
        narrow = copy(self)
        narrow.parameters = tuple(self.parameters[p] for p in positions)
        narrow._double_reverse = None
        return narrow

    # ---- products

    def jvp(self, v: Vector) -> Tensor:
        """J v, shaped like the outputs."""
        if not self.outputs.requires_grad:
            return torch.zeros_like(self.outputs)
        PASSES.curvature += 1
        if self.hole is not None:
            return self._jvp_by_double_reverse(v)
        with explained(self.objective, self.batch, "forward-mode"):
            (tangent,) = self._tape.jvp(list(zip(self.parameters, v, strict=True)))
        return torch.zeros_like(self.outputs) if tangent is None else tangent

    def vjp(self, u: Tensor, *, retain: bool = True) -> list[Tensor]:
        """Jᵀ u. With `retain=False` the graph is freed as it goes and this linearisation is spent."""
        if not self.outputs.requires_grad:
            return [torch.zeros_like(p) for p in self.parameters]
        PASSES.backward += 1
        return list(
            torch.autograd.grad(
                self.outputs, self.parameters, u, retain_graph=retain, allow_unused=True, materialize_grads=True
            )
        )

    def gradient(self, *, retain: bool = True) -> list[Tensor]:
        """g = Jᵀ ∇ℓ, with what the loss itself holds of the parameters."""
        if not self._attached.requires_grad:
            return [torch.zeros_like(p) for p in self.parameters]
        PASSES.backward += 1
        return list(
            torch.autograd.grad(
                self._attached, self.parameters, retain_graph=retain, allow_unused=True, materialize_grads=True
            )
        )

    def ggn(self, v: Vector, *, retain: bool = True) -> list[Tensor]:
        """G v = Jᵀ H_ℓ J v. Cost: 4/3 of a gradient, 5/3 with the forward pass."""
        return self.vjp(self.loss_hessian(self.jvp(v)), retain=retain)

    @property
    def attached(self) -> Tensor:
        """f with its graph."""
        return self._attached

    def _jvp_by_double_reverse(self, v: Vector) -> Tensor:
        """J v = ∂/∂u (Jᵀu · v)."""
        if self._double_reverse is None:
            dummy = torch.zeros_like(self.outputs, requires_grad=True)
            with explained(self.objective, self.batch, "reverse-mode"):
                pulled = torch.autograd.grad(
                    self.outputs, self.parameters, dummy, create_graph=True, allow_unused=True, materialize_grads=True
                )
            self._double_reverse = dummy, list(pulled)
        dummy, pulled_back = self._double_reverse
        pairs = [(p, t) for p, t in zip(pulled_back, v, strict=True) if p.requires_grad]
        if not pairs:
            return torch.zeros_like(self.outputs)
        with explained(self.objective, self.batch, "reverse-mode"):
            (out,) = torch.autograd.grad(
                [p for p, _ in pairs], dummy, [t for _, t in pairs], retain_graph=True, materialize_grads=True
            )
        return out


def pulled_together(
    parts: Sequence[Linearization], shares: Sequence[float], cotangents: Sequence[Tensor | None]
) -> list[Tensor]:
    """Σ aᵢ gᵢ + Jᵢᵀuᵢ over linearisations at the same parameters, in one reverse pass that frees their loss's graph.

    Sums are taken where gradients arrive, which saves passes over memory of the size of the parameters.
    """
    roots: list[Tensor] = []
    seeds: list[Tensor] = []
    for lin, share, u in zip(parts, shares, cotangents, strict=True):
        if lin.attached.requires_grad:
            roots.append(lin.attached)
            seeds.append(torch.full_like(lin.loss, share))
        if u is not None and lin.outputs.requires_grad:
            roots.append(lin.outputs)
            seeds.append(u)
    parameters = parts[0].parameters
    if not roots:
        return [torch.zeros_like(p) for p in parameters]
    PASSES.backward += 1
    return list(torch.autograd.grad(roots, parameters, seeds, allow_unused=True, materialize_grads=True))
