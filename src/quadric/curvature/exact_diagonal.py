"""The exact diagonal of Gauss–Newton matrices, from the squares of per-example gradients of known layers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from quadric.core.randomness import RandomState
from quadric.curvature.curvature import Curvature
from quadric.curvature.empirical_fisher import EmpiricalFisher
from quadric.curvature.fisher import Fisher
from quadric.curvature.ggn import GGN
from quadric.curvature.kronecker.coverage import place
from quadric.curvature.kronecker.layers import Block, Plan, merged, norm_gradients, plan
from quadric.curvature.kronecker.passes import Source, Unaccounted, slopes
from quadric.curvature.kronecker.squares import example_squares
from quadric.objective.batch import Batch
from quadric.objective.isolation import untouched
from quadric.objective.losses import Loss
from quadric.operators import queries
from quadric.operators.diagonal import Diagonal
from quadric.operators.operator import LinearOperator

VECTORS = 1_000
"""Backward passes for each batch above which the exact diagonal is left to other ways."""

Recurse = Callable[[LinearOperator], Diagonal]


@queries.diagonal.register(GGN)
def _of_ggn(operator: GGN, recurse: Recurse) -> Diagonal | None:
    return _diagonal(operator, Source("exact", 1, operator.seed))


@queries.diagonal.register(Fisher)
def _of_fisher(operator: Fisher, recurse: Recurse) -> Diagonal | None:
    return _diagonal(operator, Source("mc", operator.samples, operator.seed))


@queries.diagonal.register(EmpiricalFisher)
def _of_empirical_fisher(operator: EmpiricalFisher, recurse: Recurse) -> Diagonal | None:
    return None if operator.centered else _diagonal(operator, Source("empirical", 1, operator.seed))


def _diagonal(operator: Curvature[Any], source: Source) -> Diagonal | None:
    """Σ_b D_b Σ_r Σ_n (J_nᵀ r_n)² / Σ D_b, or None where examples meet or a parameter is of no known layer.

    Cost: a backward pass and the squared gradients for each vector r of H_ℓ = Σ r rᵀ: for "exact" each class.
    """
    objective = operator.objective
    loss = objective.loss
    if loss is None or (source.fisher == "exact" and type(loss).square_root is Loss.square_root):
        return None
    chosen = plan(objective.model, objective.parameters)
    if chosen.rest or not all(_separate(operator, batch, source) for batch in objective.batches(operator.data)):
        return None
    try:
        return _sum(operator, chosen, source)
    except Unaccounted:
        return None


def _separate(operator: Curvature[Any], batch: Batch, source: Source) -> bool:
    """Whether examples don't meet (each half of them alone has the same outputs) and a few vectors make up H_ℓ."""
    objective = operator.objective
    random = RandomState.seeded(source.seed, objective.space.device)
    with torch.no_grad(), untouched(objective.model, random):
        outputs = objective.outputs(batch)
    if not isinstance(outputs, Tensor) or outputs.dim() == 0 or outputs.shape[0] != batch.examples:
        return False
    assert objective.loss is not None
    block = objective.loss.block_dims(outputs)
    whole = 0 not in block and (source.fisher != "mc" or len(block) == outputs.dim() - 1)
    if source.fisher != "empirical" and (not whole or outputs[0].numel() > VECTORS):
        return False
    if batch.examples == 1:
        return True
    try:
        with torch.no_grad(), untouched(objective.model, random):
            alone = torch.cat([objective.outputs(half) for half in batch.split(0.5)])
    except (RuntimeError, ValueError):  # a model that refuses half a batch makes examples meet
        return False
    tolerance = torch.finfo(outputs.dtype).eps ** 0.75
    return bool(alone.shape == outputs.shape and (alone - outputs).norm() <= tolerance * outputs.norm())


def _sum(operator: Curvature[Any], chosen: Plan, source: Source) -> Diagonal | None:
    space, objective = operator.space, operator.objective
    total = torch.zeros(space.numel, dtype=space.dtype, device=space.device)
    places = {block: place(block, space) for block in chosen.blocks}
    weights = 0.0
    for slope in slopes(objective, operator.data, chosen, source):
        weights += slope.weight if slope.first else 0.0
        for block, where in places.items():
            for a, g in merged(block, slope.calls, space.dtype):
                if a.shape[0] != slope.examples:
                    return None
                where.write(where.take(total) + slope.weight * _squares(block, a, g, space.shapes), total)
    return Diagonal(total / weights, space)


def _squares(block: Block, a: Tensor, g: Tensor, shapes: tuple[torch.Size, ...]) -> Tensor:
    if block.kind == "norm":
        return norm_gradients(block, a, g).square().sum(0)
    if block.kind == "embedding":
        assert block.weight is not None
        return example_squares(a, g, shapes[block.weight][0]).T.reshape(-1)
    return example_squares(a, g, a.shape[2]).reshape(-1)
