"""One pass over the data: each layer's inputs, and the gradients in its outputs along the square root of H_ℓ."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from quadric.core.passes import PASSES
from quadric.core.randomness import RandomState, Seed
from quadric.curvature.example_slopes import example_slopes, refuse_coupled
from quadric.curvature.kronecker.accounts import adds_up, altered, used_outside
from quadric.curvature.kronecker.calls import Call, recorded
from quadric.curvature.kronecker.layers import Block, Layer, Plan, Use
from quadric.objective.batch import not_finite
from quadric.objective.isolation import untouched
from quadric.objective.linearization import Linearization
from quadric.objective.objective import Objective

KINDS = ("exact", "mc", "empirical")


@dataclass(frozen=True)
class Source:
    """Whose second moments: "exact" Fisher, "mc" with so many samples, or "empirical"; and the random numbers."""

    fisher: str
    samples: int
    seed: Seed


@dataclass(frozen=True, eq=False)
class Forward:
    """The forward pass of a batch, with the calls that were `recorded` in it."""

    linearization: Linearization
    calls: list[Call]


@dataclass(frozen=True)
class Slope:
    """One vector r of H_ℓ = Σ r rᵀ pushed back: each layer's calls, and Jᵀ r of the other parameters."""

    weight: float
    """D_b of its batch."""
    first: bool
    """Whether it is the first of its batch."""
    examples: int
    """How many its batch has."""
    calls: dict[Layer, list[Use]]
    gradients: dict[int, Tensor]


class Unaccounted(Exception):
    """Layers whose parameters also act outside of their modules' calls, so the calls don't make up their gradient."""

    def __init__(self, layers: list[Layer]) -> None:
        super().__init__(layers)
        self.layers = layers


def slopes(objective: Objective, data: Any, plan: Plan, source: Source) -> Iterator[Slope]:
    """Every vector of every batch, or of the one whose `Forward` is given in place of data.

    Raises Unaccounted where the calls of a layer don't account for its gradient.
    """
    if source.fisher == "empirical":
        refuse_coupled(objective)
    found = False
    doubtful = tuple(b for b in plan.blocks if any(altered(module) for layer in b.layers for module in layer.modules))
    with untouched(objective.model, RandomState.seeded(source.seed, objective.space.device)):
        for linearization, calls in _forwards(objective, data, plan):
            if linearization.weight <= 0:
                continue
            if not bool(torch.isfinite(linearization.loss)):
                part = not_finite(linearization.batch) or "parameters or activations"
                raise ValueError(f"The loss is {float(linearization.loss)}: the {part} hold NaN or infinity.")
            found = True
            stray = used_outside(linearization.outputs, calls, plan, objective.parameters)
            if stray:
                raise Unaccounted([layer for layer in plan.layers if layer in stray])
            here = _Recorded(plan, linearization, calls, doubtful, objective.space.dtype)
            for i, r in enumerate(_vectors(linearization, source)):
                yield here.push(r, first=i == 0)
    if not found:
        raise ValueError("No batch of the data has anything to average over (every D_b is 0).")


def _forwards(objective: Objective, data: Any, plan: Plan) -> Iterator[tuple[Linearization, list[Call]]]:
    """The batches' forward passes with the calls of the plan's layers."""
    if isinstance(data, Forward):
        yield data.linearization, [call for call in data.calls if call.layer in plan.layers]
        return
    for batch in objective.batches(data):
        with recorded(plan) as calls:
            linearization = Linearization(objective, batch, taped=False)
        yield linearization, calls


def _vectors(linearization: Linearization, source: Source) -> Iterator[Tensor]:
    """r₁, r₂, … with Σ_k r_k r_kᵀ = H_ℓ, block by block, each example with a random sign.

    With signs the products of different examples have mean zero wherever a sum over examples gets squared: where
    BatchNorm lets them meet, and in the diagonal blocks.
    """
    outputs = linearization.outputs.detach()
    seed = int(torch.randint(2**62, ()))  # follows from the source's
    generator = torch.Generator(outputs.device).manual_seed(seed)
    if source.fisher == "empirical":
        r, _ = example_slopes(linearization)
        yield r * _signs(outputs, linearization.batch.examples == 1, generator)
        return
    loss, targets = linearization.split(), linearization.batch.targets
    if source.fisher == "exact":
        for r in loss.square_root(outputs, targets):
            yield r * _signs(outputs, 0 in loss.block_dims(outputs), generator)
    else:
        for _ in range(source.samples):
            r = loss.sample(outputs, targets, generator)
            yield r if source.samples == 1 else r / source.samples**0.5


def _signs(outputs: Tensor, single: bool, generator: torch.Generator) -> Tensor:
    """±1 for each example, [examples, 1, …]; one number for a `single` example."""
    shape = [1] * outputs.dim() if single else [*outputs.shape[:1], *[1] * (outputs.dim() - 1)]
    half = torch.full(shape, 0.5, dtype=outputs.dtype, device=outputs.device)
    return 2 * torch.bernoulli(half, generator=generator) - 1


@dataclass(frozen=True)
class _Recorded:
    """A linearised batch with the calls of the plan's layers, and which blocks need a look at their gradient."""

    plan: Plan
    linearization: Linearization
    calls: list[Call]
    doubtful: tuple[Block, ...]
    dtype: torch.dtype

    def push(self, r: Tensor, first: bool) -> Slope:
        """Jᵀ r into the layers' outputs and the other parameters."""
        plan, outputs, dtype = self.plan, self.linearization.outputs, self.dtype
        parameters = self.linearization.parameters
        positions = list(plan.rest)
        if first:
            positions += [p for block in self.doubtful for p in block.positions]
        wanted: list[Any] = [*(call.output for call in self.calls), *(parameters[p] for p in positions)]
        pushed: tuple[Tensor | None, ...] = (None,) * len(wanted)
        if outputs.requires_grad and wanted:
            PASSES.backward += 1
            pushed = torch.autograd.grad(outputs, wanted, r, retain_graph=True, allow_unused=True)
        uses: dict[Layer, list[Use]] = {layer: [] for layer in plan.layers}
        for call, slope in zip(self.calls, pushed, strict=False):
            if slope is not None:
                _check_intact(call)
                uses[call.layer].append(call.use(slope))
        gradients = {
            p: torch.zeros_like(parameters[p]) if g is None else g
            for p, g in zip(positions, pushed[len(self.calls) :], strict=True)
        }
        if first:
            wrong = [block for block in self.doubtful if not adds_up(block, uses, parameters, gradients, dtype)]
            if wrong:
                raise Unaccounted([layer for block in wrong for layer in block.layers])
        rest = {p: gradients[p].to(dtype) for p in plan.rest}
        return Slope(self.linearization.weight, first, self.linearization.batch.examples, uses, rest)


def _check_intact(call: Call) -> None:
    if not call.intact:
        raise ValueError(
            f"The input of module {call.layer.name!r} was changed in place after the call, so what it saw is lost "
            "(training would fail for the same reason). Change a copy of it in the model."
        )
