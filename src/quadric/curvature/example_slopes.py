"""Gradients in the outputs, example by example: what second moments of per-example gradients are made of."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from quadric.objective.batch import Batch
from quadric.objective.linearization import Linearization
from quadric.objective.losses.loss import Elementwise
from quadric.objective.objective import Objective


def example_slopes(linearization: Linearization) -> tuple[Tensor, Tensor]:
    """(r, w): r shaped like the outputs, its part of example n being r_n = √w_n ∂f_n/∂y_n, and w [examples].

    f_n is the loss of example n as a batch of its own, D_n what its mean divides by, w_n = D_n / Σ D_n. So

        Σ_n J_nᵀ r_n r_nᵀ J_n = Σ_n w_n g_n g_nᵀ,     g = Σ_n w_n g_n,     g_n = ∂f_n/∂w.

    For torch's mean-reduced losses ∂f_n/∂y_n = (∂f/∂y)_n / w_n, so no loss is evaluated anew; any other loss is
    evaluated on the outputs of each example alone. An example with D_n = 0 contributes nothing. Raises ValueError where
    the outputs don't have the examples along their first dimension, and where the loss is not Σ w_n f_n.
    """
    objective, batch, outputs = linearization.objective, linearization.batch, linearization.outputs
    if batch.examples == 1:
        if objective.loss is not None and outputs.dim() > 0:
            _without_parameters(linearization)
        return linearization.loss_gradient.detach(), outputs.new_ones(1)
    loss = linearization.split()
    if outputs.shape[0] != batch.examples:
        raise ValueError(
            f"Per-example gradients need outputs whose first dimension is the batch of {batch.examples} examples, got "
            f"outputs of shape {list(outputs.shape)}. Reshape them in the loss function instead of the model."
        )
    mismatched = isinstance(loss, Elementwise) and batch.targets.shape != outputs.shape
    if not loss.separable or mismatched or objective.normalizer is not None:
        _without_parameters(linearization)
        return _one_by_one(linearization)
    counts = loss.normalizers(outputs.detach(), batch.targets)
    weights = counts / counts.sum().clamp(min=torch.finfo(counts.dtype).tiny)
    scale = torch.where(weights > 0, weights, torch.ones_like(weights)).rsqrt() * (weights > 0)
    return linearization.loss_gradient.detach() * over_examples(scale, outputs), weights


def over_examples(values: Tensor, outputs: Tensor) -> Tensor:
    """[examples] as a tensor that multiplies the outputs."""
    return values.view(-1, *[1] * (outputs.dim() - 1)) if outputs.dim() > 0 else values.view(())


def refuse_coupled(objective: Objective) -> None:
    """Raise ValueError where a BatchNorm module makes the outputs of one example depend on the others."""
    for name, module in objective.model.named_modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and (module.training or module.running_mean is None):
            raise ValueError(
                f"Per-example gradients are not defined where examples meet: module {name!r} "
                f"({type(module).__name__}) normalises by the batch's own statistics. Call model.eval() first "
                "(track_running_stats=True), or use layer or group normalisation."
            )


def _without_parameters(linearization: Linearization) -> None:
    loss = linearization.objective.loss
    assert loss is not None
    with torch.enable_grad():
        if loss(linearization.outputs.detach(), linearization.batch.targets).requires_grad:
            raise ValueError(
                "The loss function depends on trainable parameters other than through the model's outputs, so its "
                "per-example gradients don't go through the outputs alone. For an L2 penalty use the optimiser's "
                "weight_decay."
            )


def _one_by_one(linearization: Linearization) -> tuple[Tensor, Tensor]:
    objective, batch = linearization.objective, linearization.batch
    at = linearization.outputs.detach().requires_grad_()
    losses, counts = [], []
    with torch.enable_grad():
        for n in range(batch.examples):
            alone, outputs = _alone(batch, n), at[n : n + 1]
            count = objective.weight(outputs.detach(), alone)
            counts.append(count)
            losses.append(objective.loss_at(outputs, alone) if count > 0 else outputs.sum() * 0)
        total = torch.stack(losses)
        (slopes,) = torch.autograd.grad(total.sum(), at, materialize_grads=True, allow_unused=True)
    weights = torch.tensor(counts, dtype=at.dtype, device=at.device)
    weights = weights / weights.sum().clamp(min=torch.finfo(at.dtype).tiny)
    mean, whole = float(weights @ total.detach().to(at.dtype)), float(linearization.loss)
    tolerance = 1e3 * torch.finfo(at.dtype).eps ** 0.75 * max(abs(whole), 1e-3)
    if not abs(mean - whole) <= tolerance and linearization.weight > 0:
        raise ValueError(
            f"The loss of the batch is {whole:.6g}, but the average of its examples' losses is {mean:.6g}: it is not a "
            "mean over examples, so it has no per-example gradients. If examples count differently, say how: "
            "Objective(..., normalizer=lambda batch: number)."
        )
    return slopes * over_examples(weights.sqrt(), at), weights


def _alone(batch: Batch, n: int) -> Batch:
    def cut(value: Any) -> Any:
        if isinstance(value, Tensor):
            return value[n : n + 1] if value.dim() > 0 and value.shape[0] == batch.examples else value
        if isinstance(value, Mapping):
            return {key: cut(part) for key, part in value.items()}
        return type(value)(map(cut, value)) if isinstance(value, (tuple, list)) else value

    return Batch(cut(batch.inputs), cut(batch.targets), 1)
