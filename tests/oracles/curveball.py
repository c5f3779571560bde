"""CurveBall (Henriques et al., 2019) with full matrices, written from the formulas alone.

Δz = Ĉz + g,  z ← ρz − βΔz,  w ← w + ηz,  with C = JᵀH_ℓJ + diag(ω), Ĉ = C + λI and g = ∇f + ωw.
(β, −ρ) solve [ΔzᵀĈΔz, zᵀĈΔz; zᵀĈΔz, zᵀĈz] (β, −ρ)ᵀ = (gᵀΔz, gᵀz)ᵀ. At steps 0, 5, 10, …, after the step and on the same
batch, γ = (f_new − f) / M with M = gᵀs + ½ sᵀĈs for the step s taken: λ ← λ/0.999⁵ if γ < 0.5, λ ← λ·0.999⁵ if γ > 1.5.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from oracles.derivatives import call, ggn, gradient, loss, select


@dataclass
class DenseStep:
    loss: float
    damping: float
    momentum: float
    step_size: float
    predicted: float  # M, negative for a step that the model expects to help
    actual: float  # f_new − f


class DenseCurveBall:
    """`lr` and `weight_decay` are numbers, or functions of a parameter's name (that is: groups)."""

    def __init__(
        self, model: nn.Module, loss_fn, damping, lr=1.0, momentum=None, step_size=None, weight_decay=0.0, adapt=True
    ):
        self.model, self.loss_fn = model, loss_fn
        self.parameters = select(model)
        self.lr, self.weight_decay = self._per_entry(lr), self._per_entry(weight_decay)
        self.damping, self.momentum, self.step_size, self.adapt = damping, momentum, step_size, adapt
        self.z = torch.zeros_like(self._weights())
        self.steps = 0

    def _per_entry(self, value) -> Tensor:
        of = value if callable(value) else lambda name: value
        return torch.cat(
            [torch.full((p.numel(),), float(of(n)), dtype=torch.float64) for n, p in self.parameters.items()]
        )

    def _weights(self) -> Tensor:
        return torch.cat([p.detach().reshape(-1) for p in self.parameters.values()])

    def _add(self, step: Tensor) -> None:
        with torch.no_grad():
            for p, s in zip(
                self.parameters.values(), step.split([p.numel() for p in self.parameters.values()]), strict=True
            ):
                p.add_(s.view_as(p))

    def _objective(self, batches) -> float:
        return (
            loss(self.model, self.loss_fn, batches).item()
            + 0.5 * (self.weight_decay * self._weights() ** 2).sum().item()
        )

    def _coefficients(self, z: Tensor, dz: Tensor, g: Tensor, c: Tensor) -> tuple[float, float]:
        """(ρ, β): each fixed one as it is; the free ones minimise the quadratic model of the step ρz − βΔz."""
        a, b, d = (dz @ c @ dz).item(), (z @ c @ dz).item(), (z @ c @ z).item()
        gd, gz = (g @ dz).item(), (g @ z).item()
        if self.momentum is not None and self.step_size is not None:
            return self.momentum, self.step_size
        if self.momentum is not None:
            return self.momentum, (gd + self.momentum * b) / a
        if self.step_size is not None:
            return ((self.step_size * b - gz) / d if d > 0 else 0.0), self.step_size
        if d == 0:
            return 0.0, gd / a
        scale = np.sqrt(np.array([a, d]))
        matrix = np.array([[a, b], [b, d]]) / np.outer(scale, scale)
        if np.linalg.cond(matrix) > 1e9:
            raise RuntimeError("The reference is not to be trusted here: z and Δz are parallel to rounding.")
        beta, minus_rho = np.linalg.solve(matrix, np.array([gd, gz]) / scale) / scale
        return -minus_rho, beta

    def step(self, *batches) -> DenseStep:
        batches, w = list(batches), self._weights()
        before = self._objective(batches)
        g = gradient(self.model, self.loss_fn, batches) + self.weight_decay * w
        c = ggn(self.model, self.loss_fn, batches) + torch.diag(self.weight_decay + self.damping)
        with torch.no_grad():
            for inputs, _ in batches:
                call(self.model, inputs)  # the one forward that updates BatchNorm's statistics
        dz = c @ self.z + g
        rho, beta = self._coefficients(self.z, dz, g, c)
        self.z = rho * self.z - beta * dz
        step = self.lr * self.z
        predicted = (g @ step + 0.5 * step @ c @ step).item()
        self._add(step)
        actual = self._objective(batches) - before
        record = DenseStep(before, self.damping, rho, beta, predicted, actual)
        if self.adapt and self.steps % 5 == 0:
            ratio = actual / predicted
            if ratio < 0.5:
                self.damping /= 0.999**5
            elif ratio > 1.5:
                self.damping *= 0.999**5
        self.steps += 1
        return record
