"""An honest refusal: which module of the model can't be differentiated the way that was asked, and why."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from quadric.core.randomness import RandomState
from quadric.objective.batch import Batch
from quadric.objective.isolation import untouched

if TYPE_CHECKING:
    from quadric.objective.objective import Objective

_MISSING = re.compile(r"not implemented|not differentiable|does not support|not supported|does not require grad")


@contextmanager
def explained(objective: Objective, batch: Batch, kind: str) -> Iterator[None]:
    """Turn torch's "derivative for X is not implemented" into an error that names the module that calls X."""
    try:
        yield
    except (RuntimeError, NotImplementedError) as error:
        if not _MISSING.search(str(error)):
            raise
        operator = _operator(str(error))
        place = None if operator is None else _calling_module(objective, batch, operator)
        where = "The model" if place is None else f"Module {place[0]!r} ({place[1]})"
        raise NotImplementedError(
            f"{where} does not support {kind} derivatives in torch {torch.__version__}: "
            f"{str(error).splitlines()[0]} Leave its parameters out with params=, or replace the module."
        ) from error


def _operator(message: str) -> str | None:
    """The stem of the ATen operator that an error message names: `embedding_bag` for `_embedding_bag_backward`."""
    found = re.search(r"(?:aten::|derivative for |with )'?_?([a-z0-9_]+)", message)
    return None if found is None else found.group(1).split("_dense")[0].removesuffix("_backward").strip("_")


def _calling_module(objective: Objective, batch: Batch, operator: str) -> tuple[str, str] | None:
    """Name and class of the innermost module that calls an operator of that stem, found by running the model again."""
    names = {id(m): name for name, m in objective.model.named_modules()}
    inside: list[nn.Module] = []
    found: list[nn.Module] = []

    class Watch(TorchDispatchMode):
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            if operator in func.name() and inside:
                found.append(inside[-1])
            return func(*args, **(kwargs or {}))

    enter = nn.modules.module.register_module_forward_pre_hook(lambda m, _: inside.append(m))
    leave = nn.modules.module.register_module_forward_hook(lambda m, *_: (inside.pop(), None)[1], always_call=True)
    try:
        random = RandomState.seeded(0, objective.space.device)
        with torch.no_grad(), untouched(objective.model, random), Watch():  # type: ignore[no-untyped-call]
            objective.outputs(batch)
    finally:
        enter.remove()
        leave.remove()
    for module in found:
        return names.get(id(module), "?"), type(module).__name__
    return None
