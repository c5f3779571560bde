"""The statistics of K-FAC: second moments of layers' inputs and of the gradients in their outputs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from quadric.core.space import Space
from quadric.curvature.kronecker.layers import Block, Layer, Plan, Use, images, merged, norm_gradients, patches, plan
from quadric.curvature.kronecker.marginals import marginals
from quadric.curvature.kronecker.moments import Mean, patch_moment
from quadric.curvature.kronecker.passes import Slope, Source, Unaccounted, slopes
from quadric.objective.objective import Objective


@dataclass
class Factors:
    """Per layer the moments of gradients `slopes` [out, out] (for a norm: of weight and bias jointly) and of `inputs`
    [d, d] (for an embedding: how often each index occurs, [d]); for each other parameter the diagonal of its block."""

    slopes: dict[Layer, Mean]
    inputs: dict[Layer, Mean]
    diagonals: dict[int, Mean]

    def blended(self, new: Factors, decay: float) -> Factors:
        """decay · these + (1 − decay) · `new`, in every mean and in its weight; those of `new` are used up."""
        return Factors(
            {layer: self.slopes[layer].blended(m, decay) for layer, m in new.slopes.items()},
            {layer: self.inputs[layer].blended(m, decay) for layer, m in new.inputs.items()},
            {p: self.diagonals[p].blended(m, decay) for p, m in new.diagonals.items()},
        )

    def pair(self, block: Block) -> tuple[Tensor, Tensor]:
        """The two factors of a block on W [out, in]: that of its rows and that of its columns. A diagonal one is [n].

        Those of a tied weight are the `marginals` of the sum over its layers; the bias that only the linear layer has
        is a last column, in which the embedding has zeros.
        """
        pairs: list[tuple[Tensor, Tensor]] = []
        for layer in block.layers:
            slopes, inputs = self.slopes[layer].value, self.inputs[layer].value
            if layer.kind == "embedding":
                missing = int(block.bias is not None)
                pairs.append((inputs, F.pad(slopes, (0, missing, 0, missing)) if missing else slopes))
            else:
                pairs.append((slopes, inputs))
        return pairs[0] if len(pairs) == 1 else marginals(pairs)

    def state(self) -> dict[str, dict[Any, tuple[float, Tensor]]]:
        """Weights and means, by the position and the kind of a layer or the position of another parameter."""

        def of(means: dict[Any, Mean]) -> dict[Any, tuple[float, Tensor]]:
            return {_key(owner): (mean.weight, mean.value.clone()) for owner, mean in means.items()}

        return {"slopes": of(self.slopes), "inputs": of(self.inputs), "diagonals": of(self.diagonals)}

    def load_state(self, state: dict[str, dict[Any, tuple[float, Tensor]]]) -> None:
        """Take over what `state` has for these blocks."""
        for name, means in (("slopes", self.slopes), ("inputs", self.inputs), ("diagonals", self.diagonals)):
            for owner, mean in means.items():
                mean.weight = state[name][_key(owner)][0]
                mean.value.copy_(state[name][_key(owner)][1])


def _key(owner: Layer | int) -> int | tuple[int, str]:
    return owner if isinstance(owner, int) else (owner.positions[0], owner.kind)


Watch = Callable[[Slope], None]
"""Called with each vector that is pushed back, along with its layers' calls."""


def collect(
    objective: Objective, data: Any, source: Source, sharing: str, watch: Watch | None = None
) -> tuple[Plan, Factors]:
    """The factors over all batches. Layers whose calls don't account for their gradient are left to the diagonal."""
    chosen = plan(objective.model, objective.parameters)
    while True:
        try:
            return chosen, _accumulate(objective, data, chosen, source, sharing, watch)
        except Unaccounted as found:
            chosen = chosen.without(found.layers, _why(found.layers))


def _why(layers: list[Layer]) -> str:
    packed = any(layer.role == "in_proj_weight" for layer in layers)
    cut = ", or cut up by attention whose query and keys differ" if packed else ""
    return f"its weights are also used outside of calls of its module{cut}"


def _accumulate(
    objective: Objective, data: Any, chosen: Plan, source: Source, sharing: str, watch: Watch | None
) -> Factors:
    factors, dtype = empty(objective.space, chosen), objective.space.dtype
    for slope in slopes(objective, data, chosen, source):
        _add(factors, slope, sharing == "reduce", dtype)
        if watch is not None:
            watch(slope)
    return factors


def empty(space: Space, chosen: Plan) -> Factors:
    """Means of nothing."""

    def mean(*shape: int) -> Mean:
        return Mean(shape, space.dtype, space.device)

    sizes = {layer: _sizes(layer, space.shapes) for layer in chosen.layers}
    return Factors(
        {layer: mean(outs, outs) for layer, (outs, _) in sizes.items()},
        {
            layer: mean(ins) if layer.kind == "embedding" else mean(ins, ins)
            for layer, (_, ins) in sizes.items()
            if layer.kind != "norm"
        },
        {p: mean(*space.shapes[p]) for p in chosen.rest},
    )


def _add(factors: Factors, slope: Slope, reduce: bool, dtype: torch.dtype) -> None:
    for p, gradient in slope.gradients.items():
        if slope.first:
            factors.diagonals[p].count(slope.weight)
        factors.diagonals[p].add(gradient.square(), slope.weight)
    for layer, uses in slope.calls.items():
        moment = factors.slopes[layer]
        if slope.first:
            moment.count(slope.weight)
        if layer.kind == "norm":
            for a, g in merged(Block((layer,)), slope.calls, dtype):
                moment.add_squares(norm_gradients(layer, a, g), slope.weight)
            continue
        for use in uses:
            moment.add_squares(_slopes(layer, use, reduce, dtype), slope.weight)
            if slope.first:
                _add_inputs(factors.inputs[layer], layer, use, reduce)


def _slopes(layer: Layer, use: Use, reduce: bool, dtype: torch.dtype) -> Tensor:
    """The gradients in the outputs of one call: a row for each place, or for each example with `reduce`."""
    slope = use.slope.to(dtype)
    if layer.kind == "convolution":
        g = images(slope, use.module).flatten(2)
        return g.sum(2) if reduce else g.transpose(0, 1).flatten(1).T
    if layer.kind == "embedding":
        padding = _padding(use)
        return slope.reshape(-1, slope.shape[-1]) if padding is None else slope[use.x != padding]
    return slope.flatten(1, -2).sum(1) if reduce and slope.dim() > 2 else slope.reshape(-1, slope.shape[-1])


def _add_inputs(moment: Mean, layer: Layer, use: Use, reduce: bool) -> None:
    """Add the second moment of the inputs of one call, summed over examples and places."""
    ones = layer.bias is not None
    if layer.kind == "embedding":
        index, padding = use.x.reshape(-1), _padding(use)
        index = index if padding is None else index[index != padding]
        moment.count(float(index.numel()))
        moment.add(torch.bincount(index, minlength=moment.shape[0]).to(moment.dtype))
    elif layer.weight is None:  # the input of a bias is the number 1
        moment.count(1.0)
        moment.add(torch.ones(1, 1, dtype=moment.dtype, device=moment.device))
    elif layer.kind == "convolution" and not reduce:
        slope = images(use.slope, use.module)
        moment.count(float(slope.numel() // slope.shape[1]))
        moment.add(patch_moment(images(use.x, use.module).to(moment.dtype), use.module, ones=ones))
    else:
        x = use.x.to(moment.dtype)
        if layer.kind == "convolution":
            rows = patches(images(x, use.module), use.module).mean(1)
        else:
            rows = x.flatten(1, -2).mean(1) if reduce and x.dim() > 2 else x.reshape(-1, x.shape[-1])
        moment.count(float(rows.shape[0]))
        moment.add_squares(rows, ones=ones)


def _padding(use: Use) -> int | None:
    """The index of an embedding whose row is a constant."""
    padding: Any = use.module.padding_idx
    return padding  # type: ignore[no-any-return]


def _sizes(layer: Layer, shapes: tuple[torch.Size, ...]) -> tuple[int, int]:
    """Number of outputs and of inputs (with the bias's 1); for a norm the number of its parameters."""
    if layer.kind == "norm":
        return sum(shapes[p].numel() for p in layer.positions), 0
    if layer.kind == "embedding":
        assert layer.weight is not None
        return shapes[layer.weight][1], shapes[layer.weight][0]
    outs = shapes[layer.positions[0]][0]
    ins = 0 if layer.weight is None else shapes[layer.weight][1:].numel()
    return outs, ins + (layer.bias is not None)
