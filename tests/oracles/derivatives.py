"""Dense gradient, Jacobian, Gauss-Newton and Hessian matrices by plain reverse mode, one row at a time.

Routes: Jacobian rows by `torch.autograd.grad` of one output element at a time; the Hessian of the loss in the outputs
by `torch.autograd.functional.hessian`; the Hessian in the weights by double backward, one row at a time, its symmetry
checked. `torch.func.hessian` is wrong on normalised networks and is not used. No forward mode, no dispatch mode, no
closed forms.

Data is one batch or a list of batches. Over several, f = Σ D_b f_b / Σ D_b with D_b the loss's own normaliser.
Nothing here changes the model: buffers and the global random state are put back.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from fnmatch import fnmatchcase

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

Loss = Callable[[Tensor, Tensor], Tensor]


@contextmanager
def restored(model: nn.Module) -> Iterator[None]:
    """Put buffers (in value) and the CPU's random state back; attention by its doubly differentiable path."""
    saved = {name: buffer.clone() for name, buffer in model.named_buffers()}
    with torch.random.fork_rng(devices=[]), sdpa_kernel(SDPBackend.MATH), torch.enable_grad():
        yield
    with torch.no_grad():
        for name, buffer in model.named_buffers():
            if not torch.equal(buffer, saved[name]):
                buffer.copy_(saved[name])


def select(model: nn.Module, patterns: Sequence[str] | str | None = None) -> dict[str, nn.Parameter]:
    """The trainable parameters whose names match any of the patterns, in the model's order; shared ones once."""
    patterns = [patterns] if isinstance(patterns, str) else patterns
    return {
        name: parameter
        for name, parameter in model.named_parameters()
        if parameter.requires_grad and (patterns is None or any(fnmatchcase(name, p) for p in patterns))
    }


def call(model: nn.Module, inputs) -> Tensor:
    if isinstance(inputs, dict):
        return model(**inputs)
    return model(*inputs) if isinstance(inputs, tuple) else model(inputs)


def as_batches(data) -> list[tuple]:
    """One batch is a tuple or list of inputs and a tensor of targets; anything else is a sequence of batches."""
    if len(data) == 2 and isinstance(data[1], Tensor):
        return [tuple(data)]
    return [tuple(batch) for batch in data]


def normaliser(loss_fn: Loss, inputs, outputs: Tensor, targets: Tensor) -> float:
    """D_b: what a mean-reduced torch loss divides by; the number of examples for every other loss."""
    if isinstance(loss_fn, nn.CrossEntropyLoss):
        if targets.is_floating_point():
            return outputs.numel() / outputs.shape[1 if outputs.dim() > 1 else 0]
        counted = targets[targets != loss_fn.ignore_index]
        return float(counted.numel() if loss_fn.weight is None else loss_fn.weight[counted].sum())
    if isinstance(
        loss_fn, nn.MSELoss | nn.L1Loss | nn.SmoothL1Loss | nn.HuberLoss | nn.BCEWithLogitsLoss | nn.PoissonNLLLoss
    ):
        return float(outputs.numel())
    return float(outputs.shape[0])


def _flat(grads: Sequence[Tensor | None], parameters: Sequence[Tensor]) -> Tensor:
    return torch.cat(
        [(torch.zeros_like(p) if g is None else g).reshape(-1) for g, p in zip(grads, parameters, strict=True)]
    )


def jacobian_of(outputs: Tensor, parameters: Sequence[Tensor]) -> Tensor:
    """∂ vec(outputs) / ∂ parameters, [outputs, parameters], one reverse pass per row."""
    rows = []
    for i in range(outputs.numel()):
        e = torch.zeros(outputs.numel(), dtype=outputs.dtype)
        e[i] = 1
        grads = torch.autograd.grad(outputs, parameters, e.view(outputs.shape), retain_graph=True, allow_unused=True)
        rows.append(_flat(grads, parameters))
    return torch.stack(rows).detach()


def jacobian(model: nn.Module, inputs, params=None) -> Tensor:
    with restored(model):
        return jacobian_of(call(model, inputs), list(select(model, params).values()))


def _loss(model: nn.Module, loss_fn: Loss, batch) -> tuple[Tensor, float]:
    inputs, targets = batch
    outputs = call(model, inputs)
    weight = normaliser(loss_fn, inputs, outputs, targets)
    return (loss_fn(outputs, targets), weight)


def _average(data, of_batch: Callable[[tuple], tuple[Tensor, float]]) -> Tensor:
    """Σ D_b A_b / Σ D_b, leaving out batches with D_b = 0 (their mean is 0/0)."""
    parts = [of_batch(batch) for batch in as_batches(data)]
    parts = [(value.detach(), weight) for value, weight in parts if weight != 0]
    return sum(value * weight for value, weight in parts) / sum(weight for _, weight in parts)


def loss(model: nn.Module, loss_fn: Loss, data) -> Tensor:
    with restored(model):
        return _average(data, lambda batch: _loss(model, loss_fn, batch))


def gradient(model: nn.Module, loss_fn: Loss, data, params=None) -> Tensor:
    parameters = list(select(model, params).values())

    def of_batch(batch):
        value, weight = _loss(model, loss_fn, batch)
        return _flat(torch.autograd.grad(value, parameters, allow_unused=True), parameters), weight

    with restored(model):
        return _average(data, of_batch)


def ggn(model: nn.Module, loss_fn: Loss, data, params=None) -> Tensor:
    """Jᵀ H_ℓ J, with H_ℓ = ∂²ℓ/∂y² at the outputs y."""
    parameters = list(select(model, params).values())

    def of_batch(batch):
        inputs, targets = batch
        outputs = call(model, inputs)
        jac = jacobian_of(outputs, parameters)
        y = outputs.detach().clone()
        curvature = torch.autograd.functional.hessian(lambda y: loss_fn(y, targets), y).reshape(y.numel(), y.numel())
        _check_symmetric(curvature, "the Hessian of the loss in the outputs")
        return jac.T @ curvature @ jac, normaliser(loss_fn, inputs, outputs, targets)

    with restored(model):
        return _average(data, of_batch)


def hessian(model: nn.Module, loss_fn: Loss, data, params=None) -> Tensor:
    """∂²f/∂w², one double backward per row."""
    parameters = list(select(model, params).values())

    def of_batch(batch):
        value, weight = _loss(model, loss_fn, batch)
        grad = _flat(torch.autograd.grad(value, parameters, create_graph=True, allow_unused=True), parameters)
        if not grad.requires_grad:
            return grad.new_zeros(grad.numel(), grad.numel()), weight
        rows = [
            _flat(torch.autograd.grad(entry, parameters, retain_graph=True, allow_unused=True), parameters)
            if entry.requires_grad
            else torch.zeros_like(grad)
            for entry in grad.unbind()
        ]
        dense = torch.stack(rows).detach()
        _check_symmetric(dense, "the Hessian")
        return dense, weight

    with restored(model):
        return _average(data, of_batch)


def hessian_product(model: nn.Module, loss_fn: Loss, data, v: Tensor, params=None) -> Tensor:
    """∂²f/∂w² V for the columns of V [n, k], one double backward each: for networks on which `hessian` is slow."""
    parameters = list(select(model, params).values())

    def of_batch(batch):
        value, weight = _loss(model, loss_fn, batch)
        grad = _flat(torch.autograd.grad(value, parameters, create_graph=True, allow_unused=True), parameters)
        if not grad.requires_grad:
            return torch.zeros_like(v), weight
        columns = [
            _flat(torch.autograd.grad(grad @ c, parameters, retain_graph=True, allow_unused=True), parameters)
            for c in v.unbind(1)
        ]
        return torch.stack(columns, 1), weight

    with restored(model):
        return _average(data, of_batch)


def _check_symmetric(matrix: Tensor, what: str) -> None:
    gap, scale = (matrix - matrix.T).abs().max().item(), matrix.abs().max().item()
    if gap > 1e-11 * max(scale, 1e-3):
        raise RuntimeError(
            f"The oracle cannot be trusted here: {what} is asymmetric by {gap:.1e} at a scale of {scale:.1e}."
        )
