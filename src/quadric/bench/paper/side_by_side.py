"""Runs of torch's first-order methods side by side.

They treat each weight by itself, so a stack of runs takes the very steps that each run would take alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import count, pairwise
from typing import Any

import torch
from torch import Tensor
from torch.func import functional_call, vmap

from quadric.bench.watch import Watch
from quadric.problems import Batch, Instance

Make = Callable[..., torch.optim.Optimizer]


def side_by_side(
    make: Make, instances: Sequence[Instance], hypers: Sequence[dict[str, Any]], watches: Sequence[Watch]
) -> None:
    """Train instance i with the hyper-parameters i under watch i, until every watch has seen enough.

    The instances are of one problem, with one batch an epoch. Neighbours with equal hyper-parameters are one tensor.
    """
    model, loss_fn = instances[0].model, instances[0].loss_fn
    blocks = [0] + [i for i in range(1, len(hypers)) if hypers[i] != hypers[i - 1]] + [len(hypers)]
    stacks = [stacked(instances[a:b]) for a, b in pairwise(blocks)]
    optimizer = make([{"params": list(s.values()), **hypers[a]} for s, a in zip(stacks, blocks, strict=False)])

    def one(weights: dict[str, Tensor], inputs: Tensor, targets: Tensor) -> Tensor:
        return loss_fn(functional_call(model, weights, (inputs,)), targets)

    batches: list[Batch] = []
    for step in count():
        drawn = [next(iter(instance.epoch(step))) for instance in instances]
        if not batches or any(new[0] is not old[0] for new, old in zip(drawn, batches, strict=True)):
            batches = drawn
            inputs, targets = (torch.stack(part) for part in zip(*batches, strict=True))
        weights = {name: torch.cat([stack[name] for stack in stacks]) for name in stacks[0]}
        losses = vmap(one)(weights, inputs, targets)
        flat = torch.cat([w.detach().flatten(1) for w in weights.values()], dim=1)
        live = [watch.see(loss, w) for watch, loss, w in zip(watches, losses.tolist(), flat, strict=True)]
        if not any(live):
            return
        optimizer.zero_grad()
        losses.sum().backward()
        optimizer.step()


def stacked(instances: Sequence[Instance]) -> dict[str, Tensor]:
    """The weights of the instances on top of each other, by name."""
    models = [dict(instance.model.named_parameters()) for instance in instances]
    return {name: torch.stack([m[name].detach() for m in models]).requires_grad_() for name in models[0]}
