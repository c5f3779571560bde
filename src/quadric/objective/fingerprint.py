"""What a linearisation depends on, so that a retained one is used only while all of it is as it was."""

from __future__ import annotations

import types
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from quadric.objective.batch import Batch

if TYPE_CHECKING:
    from quadric.objective.objective import Objective

_ATOMS = (int, float, complex, bool, str, bytes, type(None))
_OPAQUE = (types.FunctionType, types.BuiltinFunctionType, types.MethodType, types.ModuleType, type)
_DEPTH = 4


class Fingerprint:
    """The values of parameters, buffers and batch, and the plain attributes of every module and of the loss.

    Tensors are compared value by value, so a change through `.data` or shared memory counts; plain attributes (numbers,
    strings, flags, containers and objects of those) are followed into `model.config.scale` and the like. State outside
    of model, loss and batch (a global variable, say) can't be seen. Memory: one copy of parameters, buffers and batch.
    """

    def __init__(self, objective: Objective, batch: Batch) -> None:
        self._structure = _structure(objective)
        self._values = [t.detach().clone() for t in _tensors(objective, batch)]

    def fits(self, objective: Objective, batch: Batch) -> bool:
        """Whether nothing has changed since."""
        tensors = _tensors(objective, batch)
        if len(tensors) != len(self._values) or _structure(objective) != self._structure:
            return False
        return all(
            a.shape == b.shape and a.dtype == b.dtype and a.device == b.device and torch.equal(a, b)
            for a, b in zip(tensors, self._values, strict=True)
        )


def _tensors(objective: Objective, batch: Batch) -> list[Tensor]:
    return [*objective.model.parameters(), *objective.model.buffers(), *batch.tensors()]


def _structure(objective: Objective) -> list[Any]:
    seen: list[Any] = []
    for module in objective.model.modules():
        _follow(module, seen, 0)
    function = None if objective.loss is None else objective.loss.function
    for part in function.modules() if isinstance(function, nn.Module) else (function,):
        _follow(part, seen, 0)
    return seen


def _follow(value: Any, seen: list[Any], depth: int) -> None:
    """Append what identifies `value`: atoms by value, tensors by identity and version, containers by their contents."""
    if isinstance(value, _ATOMS):
        seen.append(value)
    elif isinstance(value, Tensor):
        seen.append((id(value), value._version, value.requires_grad))
    elif isinstance(value, dict):
        for key, part in value.items():
            if not (isinstance(part, dict) and not part):
                seen.append(key if isinstance(key, _ATOMS) else id(key))
                _follow(part, seen, depth)
    elif isinstance(value, (list, tuple)):
        seen.append(len(value))
        for part in value:
            _follow(part, seen, depth)
    elif isinstance(value, nn.Module) and depth > 0:
        seen.append(id(value))
    elif isinstance(value, _OPAQUE) or depth >= _DEPTH or not hasattr(value, "__dict__"):
        seen.append(id(value))
        if isinstance(value, types.FunctionType) and value.__closure__ and depth < _DEPTH:
            for cell in value.__closure__:
                _follow(cell.cell_contents, seen, depth + 1)
    else:
        seen.append(id(value))
        _follow(vars(value), seen, depth + 1)
