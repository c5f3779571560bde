"""Muon: momentum with orthogonal steps for weight matrices, and AdamW for the rest."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.adamw import adamw

from quadric.core.precision import autocast_for_models_alone
from quadric.objective.objective import Objective

QUINTIC = (3.4445, -4.7750, 2.0315)
"""Jordan's coefficients: x ↦ ax + bx³ + cx⁵, five times, takes every singular value near 1 (0.7 to 1.2)."""
ITERATIONS = 5


class Muon(torch.optim.Optimizer):
    """w ← (1 − ηω) w − η √max(a, b) · U Vᵀ, with U Σ Vᵀ the momentum of a weight matrix [a, b].

    B ← μB + (1 − μ)g and, with `nesterov`, μB + (1 − μ)g is orthogonalised by five Newton–Schulz iterations, in
    bfloat16 on a GPU and in at least float32 on the CPU. The factor √max(a, b) makes the entries of a step η in root
    mean square, as those of Adam's first step are, so one `lr` drives both. (torch.optim.Muon's own factor is
    √max(1, a/b), and 0.2 √max(a, b) under the name "match_rms_adamw".)

    Which parameters: those of two dimensions or more, convolution weights as matrices [out, in · kernel]; but not
    embeddings, whose rows are looked up one by one. Those, biases, gains and other vectors take AdamW's steps with the
    same lr and weight decay. Embeddings are only known where `params` is an `Objective`. A group with "orthogonal" set
    to True or False decides for itself, for a read-out layer say; a group without is split in two.

    torch.optim.Muon takes matrices only and leaves the rest to the user. Any closure will do, as for torch's own.
    Cost: 5 · 2 min(a, b)² · (2 max(a, b) + min(a, b)) operations per matrix and step; one buffer per matrix, two for
    the rest. References: Jordan et al. (2024), Muon: an optimizer for hidden layers in neural networks; Liu et al.
    (2025), Muon is scalable for LLM training, section 2.2, for the factor.
    """

    def __init__(
        self,
        params: Objective | Iterable[Any],
        lr: float = 1e-3,
        weight_decay: float = 0.01,
        momentum: float = 0.95,
        nesterov: bool = True,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
    ) -> None:
        _check(lr, weight_decay, momentum, betas, eps)
        self._embeddings: set[int] = set()
        if isinstance(params, Objective):
            tables = [m for m in params.model.modules() if isinstance(m, nn.Embedding | nn.EmbeddingBag)]
            self._embeddings = {id(m.weight) for m in tables}
            params = list(params.parameters)
        defaults = {"weight_decay": weight_decay, "momentum": momentum, "nesterov": nesterov, "betas": betas}
        super().__init__(params, {"lr": lr, "eps": eps, **defaults})

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """As torch's; a group that does not say "orthogonal" becomes one of matrices and one of the rest."""
        if "orthogonal" in param_group:
            _check_matrices(param_group)
            super().add_param_group(param_group)
            return
        tensors = _tensors(param_group["params"])
        matrices = [p for p in tensors if p.dim() >= 2 and id(p) not in self._embeddings]
        taken = {id(p) for p in matrices}
        for orthogonal, part in ((True, matrices), (False, [p for p in tensors if id(p) not in taken])):
            if part:
                super().add_param_group({**param_group, "params": part, "orthogonal": orthogonal})

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One step; returns what the closure returns."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            tensors = [p for p in group["params"] if p.grad is not None]
            if not tensors:
                continue
            with autocast_for_models_alone(tensors[0].device):
                (self._orthogonal if group["orthogonal"] else self._adamw)(group, tensors)
        return loss

    def _orthogonal(self, group: dict[str, Any], tensors: list[Tensor]) -> None:
        lr, mu = float(group["lr"]), group["momentum"]
        for p in tensors:
            g = p.grad
            assert g is not None
            state = self.state[p]
            if not state:
                state["momentum_buffer"] = torch.zeros_like(p)
            b = state["momentum_buffer"].lerp_(g, 1 - mu)
            matrix = (g.lerp(b, mu) if group["nesterov"] else b).flatten(1)
            p.mul_(1 - lr * group["weight_decay"])
            step = orthogonalised(matrix).to(p.dtype).view(p.shape)
            p.add_(step, alpha=-lr * math.sqrt(max(matrix.shape)))

    def _adamw(self, group: dict[str, Any], tensors: list[Tensor]) -> None:
        for p in tensors:
            if not self.state[p]:
                moments = {"exp_avg": torch.zeros_like(p), "exp_avg_sq": torch.zeros_like(p)}
                self.state[p].update(moments, step=torch.tensor(0.0))
        beta1, beta2 = group["betas"]
        adamw(
            tensors,
            [p.grad for p in tensors if p.grad is not None],
            [self.state[p]["exp_avg"] for p in tensors],
            [self.state[p]["exp_avg_sq"] for p in tensors],
            [],
            [self.state[p]["step"] for p in tensors],
            amsgrad=False,
            beta1=beta1,
            beta2=beta2,
            lr=group["lr"],
            weight_decay=group["weight_decay"],
            eps=group["eps"],
            maximize=False,
        )


def orthogonalised(matrix: Tensor) -> Tensor:
    """U Vᵀ of `matrix` = U Σ Vᵀ, roughly: singular values come out between 0.7 and 1.2, those below 1e-3 of it less."""
    a, b, c = QUINTIC
    dtype = torch.bfloat16 if matrix.is_cuda else torch.promote_types(matrix.dtype, torch.float32)
    x = matrix.to(dtype)
    x = x.T if x.shape[0] > x.shape[1] else x
    x = x / x.norm().clamp(min=torch.finfo(torch.float32).tiny)
    for _ in range(ITERATIONS):
        gram = x @ x.T
        x = torch.addmm(x, torch.addmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.T if matrix.shape[0] > matrix.shape[1] else x


def _check(lr: float, weight_decay: float, momentum: float, betas: tuple[float, float], eps: float) -> None:
    for name, value in (("lr", lr), ("weight_decay", weight_decay), ("eps", eps)):
        if not (math.isfinite(value) and value >= 0):
            raise ValueError(f"Expected {name} to be a finite number ≥ 0, got {value!r}.")
    for name, value in (("momentum", momentum), ("betas[0]", betas[0]), ("betas[1]", betas[1])):
        if not 0 <= value < 1:
            raise ValueError(f"Expected {name} in [0, 1), got {value!r}.")


def _tensors(params: Any) -> list[Tensor]:
    """What torch takes for a group's parameters, (name, tensor) pairs included, as a list of tensors."""
    given = [params] if isinstance(params, Tensor) else list(params)
    return [p[1] if isinstance(p, tuple) else p for p in given]


def _check_matrices(group: dict[str, Any]) -> None:
    group["params"] = tensors = _tensors(group["params"])
    vectors = [list(p.shape) for p in tensors if p.dim() < 2]
    if group["orthogonal"] and vectors:
        raise ValueError(
            f"Only matrices and convolution weights have orthogonal steps, got a parameter of shape {vectors[0]}; "
            'leave it to AdamW in a group with "orthogonal": False.'
        )
