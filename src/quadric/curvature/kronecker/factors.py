"""The statistics of K-FAC: second moments of layers' inputs and of the gradients in their outputs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from quadric.curvature.kronecker.layers import Layer, Plan, plan
from quadric.curvature.kronecker.passes import Pair, Slope, Source, Unaccounted, slopes
from quadric.objective.objective import Objective


@dataclass
class Mean:
    """A weighted mean as it grows: Σ of what was added over Σ of the weights."""

    total: Tensor
    weight: float = 0.0

    def add(self, part: Tensor, weight: float) -> None:
        """Add a sum that stands for so much weight; zero where the weight was counted before."""
        self.total += part
        self.weight += weight

    @property
    def value(self) -> Tensor:
        """The mean; zero where nothing was added."""
        return self.total / self.weight if self.weight else self.total


@dataclass
class Factors:
    """Per layer the moments of gradients `slopes` [out, out] (for a norm: of weight and bias jointly) and of `inputs`
    [d, d] (for an embedding: how often each index occurs, [d]); for each other parameter the diagonal of its block."""

    slopes: dict[Layer, Mean] = field(default_factory=dict)
    inputs: dict[Layer, Mean] = field(default_factory=dict)
    diagonals: dict[int, Mean] = field(default_factory=dict)

    def blended(self, new: Factors, decay: float) -> Factors:
        """decay · these + (1 − decay) · `new`, in every mean and in its weight, so that a first one counts in full."""

        def blend(old: Mean | None, recent: Mean) -> Mean:
            weight, kept = (1 - decay), decay * old.weight if old is not None else 0.0
            total = recent.value * weight
            return Mean(total if old is None else total + old.total * decay, weight + kept)

        return Factors(
            {layer: blend(self.slopes.get(layer), m) for layer, m in new.slopes.items()},
            {layer: blend(self.inputs.get(layer), m) for layer, m in new.inputs.items()},
            {p: blend(self.diagonals.get(p), m) for p, m in new.diagonals.items()},
        )


def collect(objective: Objective, data: Any, source: Source, sharing: str) -> tuple[Plan, Factors]:
    """The factors over all batches. Layers whose calls don't account for their gradient are left to the diagonal."""
    chosen = plan(objective.model, objective.parameters)
    while True:
        try:
            return chosen, _accumulate(objective, data, chosen, source, sharing)
        except Unaccounted as found:
            chosen = chosen.without(found.layers, "its weights are also used outside of calls of its module")


def _accumulate(objective: Objective, data: Any, chosen: Plan, source: Source, sharing: str) -> Factors:
    factors = Factors()
    space = objective.space
    for p in chosen.rest:
        factors.diagonals[p] = Mean(torch.zeros(space.shapes[p], dtype=space.dtype, device=space.device))
    for layer in chosen.layers:
        outs, ins = _sizes(layer, objective)
        factors.slopes[layer] = Mean(torch.zeros(outs, outs, dtype=space.dtype, device=space.device))
        if layer.kind != "norm":
            shape = (ins,) if layer.kind == "embedding" else (ins, ins)
            factors.inputs[layer] = Mean(torch.zeros(shape, dtype=space.dtype, device=space.device))
    for slope in slopes(objective, data, chosen, source):
        _add(factors, slope, sharing)
    return factors


def _add(factors: Factors, slope: Slope, sharing: str) -> None:
    counted = slope.weight if slope.first else 0.0
    for p, gradient in slope.gradients.items():
        factors.diagonals[p].add(slope.weight * gradient.square(), counted)
    for layer, pairs in slope.calls.items():
        moment = factors.slopes[layer]
        moment.weight += counted
        for a, g in merged(pairs) if layer.kind == "norm" else pairs:
            if layer.kind == "norm":
                rows = norm_gradients(layer, a, g)
            else:
                reduce = sharing == "reduce" and layer.kind != "embedding"
                rows = g.sum(1) if reduce else g.flatten(0, 1)
                if slope.first:
                    _add_inputs(factors.inputs[layer], layer, a, reduce)
            moment.total.addmm_(rows.T, rows, alpha=slope.weight)


def _add_inputs(moment: Mean, layer: Layer, a: Tensor, reduce: bool) -> None:
    """Add the second moment of the inputs of one call, summed over examples and places."""
    if layer.kind == "embedding":
        index, padding = a.reshape(-1), layer.modules[0].padding_idx
        index = index if padding is None else index[index != padding]
        moment.add(torch.bincount(index, minlength=moment.total.numel()), float(index.numel()))
    else:
        rows = a.mean(1) if reduce else a.flatten(0, 1)
        moment.total.addmm_(rows.T, rows)
        moment.weight += rows.shape[0]


def _sizes(layer: Layer, objective: Objective) -> tuple[int, int]:
    """Number of outputs and of inputs (with the bias's 1); for a norm the number of its parameters."""
    shapes = objective.space.shapes
    if layer.kind == "norm":
        return sum(shapes[p].numel() for p in layer.positions), 0
    if layer.kind == "embedding":
        assert layer.weight is not None
        return shapes[layer.weight][1], shapes[layer.weight][0]
    outs = shapes[layer.positions[0]][0]
    ins = 0 if layer.weight is None else shapes[layer.weight][1:].numel()
    return outs, ins + (layer.bias is not None)


def merged(pairs: Sequence[Pair]) -> Iterator[Pair]:
    """Calls with the same number of examples as one call with more places."""
    by_size: dict[int, list[Pair]] = {}
    for a, g in pairs:
        by_size.setdefault(a.shape[0], []).append((a, g))
    for same in by_size.values():
        yield torch.cat([a for a, _ in same], 1), torch.cat([g for _, g in same], 1)


def norm_gradients(layer: Layer, a: Tensor, g: Tensor) -> Tensor:
    """The gradients of a norm's scale and shift, example by example: [N, parameters]."""
    weight = [(g * a).sum(1)] if layer.weight is not None else []
    bias = [g.sum(1)] if layer.bias is not None else []
    return torch.cat(weight + bias, 1)
