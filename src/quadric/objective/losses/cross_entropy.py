"""Softmax cross-entropy: H_ℓ = mᵢ (diag p − p pᵀ) / D for every position i."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from quadric.objective.losses.loss import Loss


class CrossEntropy(Loss):
    """`torch.nn.CrossEntropyLoss` with every option it has.

    With class weights w, smoothing ε and C classes, ℓ = Σᵢ Σ_c q_ic (−log p_ic) / D with

        q_ic = w_c ((1 − ε) t_ic + ε/C),    mᵢ = Σ_c q_ic,

    where t is one-hot or the given probabilities, and ignored positions have q = 0. D is the number of positions that
    are not ignored or, with class weights and index targets, the sum of their targets' weights. Classes lie along
    dimension 1, or 0 for an unbatched output.
    """

    closed_form = True
    convex = True
    nonnegative = True
    likelihood = True
    separable = True

    @property
    def weight(self) -> Tensor | None:
        """w, None for all ones."""
        return self.option("weight", None)  # type: ignore[no-any-return]

    @property
    def ignore_index(self) -> int:
        """The target that does not count."""
        return int(self.option("ignore_index", -100))

    @property
    def smoothing(self) -> float:
        """ε."""
        return float(self.option("label_smoothing", 0.0))

    def normalizer(self, outputs: Any, targets: Any, examples: int) -> float:
        """D as above."""
        if self._probabilities(targets):
            return float(outputs.numel() / outputs.shape[_class_dim(outputs)])
        if self.weight is None:
            return float((targets != self.ignore_index).sum())
        return float(self._target_weight(targets).sum())

    def hessian(self, outputs: Tensor, targets: Any) -> Callable[[Tensor], Tensor]:
        """v ↦ mᵢ (p ∘ v − p (pᵀv)) / D."""
        dim = _class_dim(outputs)
        p = outputs.detach().softmax(dim)
        scale = self._mass(outputs, targets, dim)

        def product(v: Tensor) -> Tensor:
            out = torch._softmax_backward_data(v, p, dim, p.dtype)
            return out.mul_(scale)

        return product

    def normalizers(self, outputs: Tensor, targets: Any) -> Tensor:
        """D of each example's positions."""
        if self._probabilities(targets):
            examples = outputs.shape[0] if outputs.dim() > 1 else 1
            return outputs.new_full((examples,), outputs.numel() / outputs.shape[_class_dim(outputs)] / examples)
        counted = targets != self.ignore_index if self.weight is None else self._target_weight(targets)
        return counted.reshape(outputs.shape[0] if outputs.dim() > 1 else 1, -1).sum(1).to(outputs.dtype)

    def block_dims(self, outputs: Tensor) -> tuple[int, ...]:
        """The classes."""
        return (_class_dim(outputs),)

    def sample(self, outputs: Tensor, targets: Any, generator: torch.Generator) -> Tensor:
        """√(mᵢ/D) (p − e_y) at every position, with y drawn from p."""
        dim = _class_dim(outputs)
        p = outputs.detach().softmax(dim)
        # y is the first of exponential clocks with rates p to ring; in float32 at least, where times hardly ever tie
        times = torch.empty_like(p, dtype=torch.promote_types(p.dtype, torch.float32)).exponential_(generator=generator)
        drawn = (p / times.clamp_min_(torch.finfo(times.dtype).tiny)).argmax(dim, keepdim=True)
        p.scatter_add_(dim, drawn, p.new_full((1,), -1.0).expand_as(drawn))
        return p.mul_(self._mass(outputs, targets, dim) ** 0.5)

    def square_root(self, outputs: Tensor, targets: Any) -> Iterator[Tensor]:
        """√(mᵢ p_c/D) (e_c − p) for every class c: Σ_c p_c (e_c − p)(e_c − p)ᵀ = diag p − p pᵀ.

        Where an example has several positions, one of them after the other.
        """
        dim = _class_dim(outputs)
        p = outputs.detach().softmax(dim)
        mass = self._mass(outputs, targets, dim)
        for c in range(p.shape[dim]):
            r = -p
            r.select(dim, c).add_(1)
            r.mul_((mass * p.narrow(dim, c, 1)).sqrt())
            if p.dim() <= 2:
                yield r
                continue
            for position in range(p.shape[2:].numel()):
                one = torch.zeros_like(r).flatten(2)
                one[:, :, position] = r.flatten(2)[:, :, position]
                yield one.view(r.shape)

    def _mass(self, outputs: Tensor, targets: Tensor, dim: int) -> Tensor | float:
        """mᵢ / D, a number when it is the same everywhere."""
        classes = outputs.shape[dim]
        if self._probabilities(targets):
            shape = [1] * outputs.dim()
            shape[dim] = classes
            w = 1.0 if self.weight is None else self.weight.view(shape)
            q = w * ((1 - self.smoothing) * targets + self.smoothing / classes)
            return q.sum(dim, keepdim=True) * (classes / outputs.numel())
        counted = targets != self.ignore_index
        if self.weight is None:
            count = int(counted.sum())
            if count == counted.numel():
                return 1 / max(1, count)
            return (counted.to(outputs.dtype) / max(1, count)).unsqueeze(dim)
        own = self._target_weight(targets)
        mass = (1 - self.smoothing) * own + counted * (self.smoothing / classes * self.weight.sum())
        return (mass / own.sum()).unsqueeze(dim)

    def _target_weight(self, targets: Tensor) -> Tensor:
        """w of each position's target, 0 where ignored."""
        assert self.weight is not None
        counted = targets != self.ignore_index
        return self.weight[targets.where(counted, torch.zeros_like(targets))] * counted

    def _probabilities(self, targets: Tensor) -> bool:
        return targets.is_floating_point()


def _class_dim(outputs: Tensor) -> int:
    return 1 if outputs.dim() > 1 else 0
