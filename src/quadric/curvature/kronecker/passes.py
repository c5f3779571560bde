"""One pass over the data: each layer's inputs, and the gradients in its outputs along the square root of H_ℓ."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import GradientEdge, get_gradient_edge

from quadric.core.randomness import RandomState, Seed
from quadric.curvature.example_slopes import example_slopes, refuse_coupled
from quadric.curvature.kronecker.layers import Layer, Plan, sides
from quadric.objective.batch import not_finite
from quadric.objective.isolation import untouched
from quadric.objective.linearization import Linearization
from quadric.objective.objective import Objective

KINDS = ("exact", "mc", "empirical")

Pair = tuple[Tensor, Tensor]
"""(a, g) of one call."""


@dataclass(frozen=True)
class Source:
    """Whose second moments: "exact" Fisher, "mc" with so many samples, or "empirical"; and the random numbers."""

    fisher: str
    samples: int
    seed: Seed


@dataclass(frozen=True)
class Slope:
    """One vector r of H_ℓ = Σ r rᵀ pushed back: each layer's calls as (a, g), and Jᵀ r of the other parameters."""

    weight: float
    """D_b of its batch."""
    first: bool
    """Whether it is the first of its batch."""
    examples: int
    """How many its batch has."""
    calls: dict[Layer, list[Pair]]
    gradients: dict[int, Tensor]


class Unaccounted(Exception):
    """Layers whose parameters also act outside of their modules' calls, so the calls don't make up their gradient."""

    def __init__(self, layers: list[Layer]) -> None:
        super().__init__(layers)
        self.layers = layers


def slopes(objective: Objective, data: Any, plan: Plan, source: Source) -> Iterator[Slope]:
    """Every vector of every batch. Raises Unaccounted where the calls of a layer don't account for its gradient."""
    if source.fisher == "empirical":
        refuse_coupled(objective)
    found = False
    with untouched(objective.model, RandomState.seeded(source.seed, objective.space.device)):
        for batch in objective.batches(data):
            with _calls(plan) as calls:
                linearization = Linearization(objective, batch, taped=False)
            if linearization.weight <= 0:
                continue
            if not bool(torch.isfinite(linearization.loss)):
                part = not_finite(batch) or "parameters or activations"
                raise ValueError(f"The loss is {float(linearization.loss)}: the {part} hold NaN or infinity.")
            found = True
            for i, r in enumerate(_vectors(linearization, source)):
                yield _push(objective, plan, linearization, calls, r, first=i == 0)
    if not found:
        raise ValueError("No batch of the data has anything to average over (every D_b is 0).")


@contextmanager
def _calls(plan: Plan) -> Iterator[list[tuple[Layer, nn.Module, Tensor, GradientEdge]]]:
    """Record the calls of the plan's modules. Edges are taken at once: what follows may change outputs in place."""
    calls: list[tuple[Layer, nn.Module, Tensor, GradientEdge]] = []
    handles = []
    for layer in plan.layers:
        for module in layer.modules:

            def record(module: nn.Module, inputs: Any, output: Any, layer: Layer = layer) -> None:
                if isinstance(output, Tensor) and output.requires_grad and inputs and isinstance(inputs[0], Tensor):
                    calls.append((layer, module, inputs[0].detach(), get_gradient_edge(output)))

            handles.append(module.register_forward_hook(record))
    try:
        yield calls
    finally:
        for handle in handles:
            handle.remove()


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
            yield loss.sample(outputs, targets, generator) / source.samples**0.5


def _signs(outputs: Tensor, single: bool, generator: torch.Generator) -> Tensor:
    """±1 for each example, [examples, 1, …]; one number for a `single` example."""
    shape = [1] * outputs.dim() if single else [*outputs.shape[:1], *[1] * (outputs.dim() - 1)]
    half = torch.full(shape, 0.5, dtype=outputs.dtype, device=outputs.device)
    return 2 * torch.bernoulli(half, generator=generator) - 1


def _push(
    objective: Objective,
    plan: Plan,
    linearization: Linearization,
    calls: list[tuple[Layer, nn.Module, Tensor, GradientEdge]],
    r: Tensor,
    first: bool,
) -> Slope:
    """Jᵀ r into the layers' outputs and the other parameters; with the first r of a batch the accounts are checked."""
    dtype = objective.space.dtype
    positions = list(range(len(objective.parameters))) if first else list(plan.rest)
    edges = [edge for *_, edge in calls]
    wanted: list[Any] = [*edges, *(objective.parameters[p] for p in positions)]
    pushed: tuple[Tensor | None, ...] = (None,) * len(wanted)
    if linearization.outputs.requires_grad and wanted:
        pushed = torch.autograd.grad(linearization.outputs, wanted, r, retain_graph=True, allow_unused=True)
    pairs: dict[Layer, list[Pair]] = {layer: [] for layer in plan.layers}
    for (layer, module, x, _), slope in zip(calls, pushed, strict=False):
        if slope is not None:
            pairs[layer].append(sides(layer, module, x, slope, dtype))
    gradients = {
        p: torch.zeros_like(objective.parameters[p]) if g is None else g
        for p, g in zip(positions, pushed[len(edges) :], strict=True)
    }
    if first:
        wrong = [layer for layer in plan.layers if not _accounts(layer, pairs[layer], objective, gradients)]
        if wrong:
            raise Unaccounted(wrong)
    rest = {p: gradients[p].to(dtype) for p in plan.rest}
    return Slope(linearization.weight, first, linearization.batch.examples, pairs, rest)


def _accounts(layer: Layer, pairs: list[Pair], objective: Objective, gradients: dict[int, Tensor]) -> bool:
    """Whether G = Σ g aᵀ over the recorded calls is the gradient that autograd finds, by pᵀ G q with random p and q."""
    dtype, device = objective.space.dtype, objective.space.device
    generator = torch.Generator(device).manual_seed(0)

    def probe(size: int) -> Tensor:
        return torch.randn(size, dtype=dtype, device=device, generator=generator)

    first = gradients[layer.positions[0]]
    outs, width = (first.numel(), 1) if layer.kind == "norm" else (first.shape[0], first[0].numel())
    p, q = probe(outs), probe(width)
    weight = None if layer.weight is None else gradients[layer.weight].to(dtype).reshape(outs, width)
    bias = None if layer.bias is None else gradients[layer.bias].to(dtype).reshape(-1)
    want = torch.zeros_like(p[0])
    if weight is not None:
        want += p @ (weight @ q)
    if bias is not None:
        want += p @ bias
    got, scale = torch.zeros_like(p[0]), abs(want)
    for a, g in pairs:
        if layer.kind == "embedding":
            terms = (g @ q) * p[a]
        elif layer.kind == "norm":
            hat = torch.zeros_like(a) if weight is None else a * q
            terms = g * (hat if bias is None else hat + 1) * p
        else:
            ones = q.new_ones(1)
            terms = (g @ p) * (a @ torch.cat(([] if weight is None else [q]) + ([] if bias is None else [ones])))
        got += terms.sum()
        scale += terms.abs().sum()
    eps = torch.finfo(objective.parameters[layer.positions[0]].dtype).eps
    return bool(abs(got - want) <= eps**0.5 * scale)
