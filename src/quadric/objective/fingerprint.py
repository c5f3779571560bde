"""What a linearisation depends on, so that a retained one is used only while all of it is as it was."""

from __future__ import annotations

import types
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from quadric.objective.batch import Batch

if TYPE_CHECKING:
    from quadric.objective.objective import Objective

_ATOMS = frozenset({int, float, complex, bool, str, bytes, type(None)})
_OPAQUE = (types.FunctionType, types.BuiltinFunctionType, types.MethodType, types.ModuleType, type)
_DEPTH = 4
_SAMPLE = 64


class Fingerprint:
    """The values of parameters, buffers and batch, and the plain attributes of every module and of the loss.

    Tensors count by value, so a change through `.data` or shared memory is seen: the 64-bit sum of their bits changes
    with any one number, and a sample of them with their order. Plain attributes (numbers, strings, flags, containers
    and objects of those) are followed into `model.config.scale` and the like. State outside of model, loss and batch (a
    global variable, say) can't be seen. Cost: one reading of parameters, buffers and batch; memory: none to speak of.
    """

    def __init__(self, objective: Objective, batch: Batch) -> None:
        self._seen = _look(objective, batch)

    def fits(self, objective: Objective, batch: Batch) -> bool:
        """Whether nothing has changed since."""
        return _look(objective, batch) == self._seen


def _look(objective: Objective, batch: Batch) -> tuple[list[Any], list[Any]]:
    return _structure(objective), [_digest(t) for t in _tensors(objective, batch)]


def _digest(tensor: Tensor) -> tuple[Any, ...]:
    """Shape, dtype, device, the sum of the bits as 64-bit integers, and every so-manieth number."""
    flat = tensor.detach().reshape(-1)
    if flat.dtype == torch.bool:
        flat = flat.view(torch.uint8)
    words = 8 // flat.itemsize if flat.itemsize < 8 else 1
    whole = flat.numel() // words * words
    total: Any
    sample: Any
    body = flat[:whole].view(torch.int64)
    every = max(1, body.numel() // _SAMPLE)
    if flat.device.type == "cpu":
        numbers = body.numpy()
        total = int(numbers.sum())
        sample = numbers[::every].tobytes() + flat[whole:].view(torch.uint8).numpy().tobytes()
    else:
        total = int(body.sum())
        sample = tuple(body[::every].tolist()), tuple(flat[whole:].tolist())
    return tensor.shape, tensor.dtype, tensor.device, total, sample


def _tensors(objective: Objective, batch: Batch) -> list[Tensor]:
    return [*objective.model.parameters(), *objective.model.buffers(), *batch.tensors()]


def _structure(objective: Objective) -> list[Any]:
    seen: list[Any] = []
    _follow(objective.model, seen, 0)
    if objective.loss is not None:
        _follow(objective.loss.function, seen, 0)
    return seen


def _follow(value: Any, seen: list[Any], depth: int) -> None:
    """Append what identifies `value`: atoms by value, tensors by identity and version, the rest by its contents.

    A module's children are followed to any depth, other objects to a few levels.
    """
    kind = type(value)
    if kind in _ATOMS:
        seen.append(value)
    elif isinstance(value, Tensor):
        seen.append((id(value), value._version, value.requires_grad))
    elif isinstance(value, nn.Module):
        seen.append(id(value))
        for key, part in value.__dict__.items():
            if type(part) in _ATOMS:
                seen.append(part)
            elif not isinstance(part, (dict, set)) or part:
                seen.append(key)
                _follow(part, seen, 0 if key == "_modules" else depth + 1)
    elif isinstance(value, dict):
        for key, part in value.items():
            seen.append(key if type(key) in _ATOMS else id(key))
            _follow(part, seen, depth)
    elif isinstance(value, (list, tuple, set)):
        seen.append(len(value))
        for part in value:
            _follow(part, seen, depth)
    elif isinstance(value, _OPAQUE) or depth >= _DEPTH or not hasattr(value, "__dict__"):
        seen.append(id(value))
        if isinstance(value, types.FunctionType) and value.__closure__ and depth < _DEPTH:
            for cell in value.__closure__:
                _follow(cell.cell_contents, seen, depth + 1)
    else:
        seen.append(id(value))
        _follow(vars(value), seen, depth + 1)
