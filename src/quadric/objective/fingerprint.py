"""What a linearisation depends on, so that a retained one is used only while all of it is as it was."""

from __future__ import annotations

import types
from typing import TYPE_CHECKING, Any

import numpy as np
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
        self._structure, tensors = _look(objective, batch)
        self._watched = [_Watched(t) for t in tensors]

    def fits(self, objective: Objective, batch: Batch) -> bool:
        """Whether nothing has changed since."""
        structure, tensors = _look(objective, batch)
        return structure == self._structure and all(w.fits(t) for w, t in zip(self._watched, tensors, strict=True))


class _Watched:
    """A tensor's place and, as 64-bit integers, the sum of its bits and a sample of them."""

    def __init__(self, tensor: Tensor) -> None:
        self.place = _place(tensor)
        flat = tensor.detach().reshape(-1)
        if flat.dtype == torch.bool:
            flat = flat.view(torch.uint8)
        whole = flat.numel() - flat.numel() % max(1, 8 // flat.itemsize)
        self.shares_memory = flat.data_ptr() == tensor.data_ptr()
        self.words = _array(flat[:whole].view(torch.int64))
        self.rest = _array(flat[whole:].view(torch.uint8))
        self.every = max(1, len(self.words) // _SAMPLE)
        self.digest = self._digest()

    def fits(self, tensor: Tensor) -> bool:
        """Whether it is the same memory with the same values."""
        if _place(tensor) != self.place:
            return False
        return self._digest() == self.digest if self.shares_memory else _Watched(tensor).digest == self.digest

    def _digest(self) -> tuple[Any, ...]:
        if isinstance(self.words, Tensor):
            return int(self.words.sum()), self.words[:: self.every].tolist(), self.rest.tolist()
        return int(np.add.reduce(self.words)), self.words[:: self.every].tobytes(), self.rest.tobytes()


def _array(flat: Tensor) -> Any:
    """The same memory for NumPy, which is quicker on the CPU."""
    return flat.numpy() if flat.device.type == "cpu" else flat


def _place(tensor: Tensor) -> tuple[Any, ...]:
    return tensor.data_ptr(), tensor.shape, tensor.stride(), tensor.dtype, tensor.device


def _look(objective: Objective, batch: Batch) -> tuple[list[Any], list[Tensor]]:
    """What can be compared at sight, and the tensors."""
    seen: list[Any] = []
    tensors: list[Tensor] = []
    _follow(objective.model, seen, tensors, 0)
    if objective.loss is not None:
        _follow(objective.loss.function, seen, tensors, 0)
    tensors.extend(batch.tensors())
    return seen, tensors


def _follow(value: Any, seen: list[Any], tensors: list[Tensor], depth: int) -> None:
    """Append what identifies `value`: atoms by value, the rest by identity and contents; and the tensors found.

    A module's children are followed to any depth, other objects to a few levels.
    """
    kind = type(value)
    if kind in _ATOMS:
        seen.append(value)
    elif isinstance(value, Tensor):
        seen.append((id(value), value.requires_grad))
        tensors.append(value)
    elif isinstance(value, nn.Module):
        seen.append(id(value))
        for key, part in value.__dict__.items():
            if type(part) in _ATOMS:
                seen.append(part)
            elif not isinstance(part, (dict, set)) or part:
                seen.append(key)
                _follow(part, seen, tensors, 0 if key == "_modules" else depth + 1)
    elif isinstance(value, dict):
        for key, part in value.items():
            seen.append(key if type(key) in _ATOMS else id(key))
            _follow(part, seen, tensors, depth)
    elif isinstance(value, (list, tuple, set)):
        seen.append(len(value))
        for part in value:
            _follow(part, seen, tensors, depth)
    elif isinstance(value, _OPAQUE) or depth >= _DEPTH or not hasattr(value, "__dict__"):
        seen.append(id(value))
        if isinstance(value, types.FunctionType) and value.__closure__ and depth < _DEPTH:
            for cell in value.__closure__:
                _follow(cell.cell_contents, seen, tensors, depth + 1)
    else:
        seen.append(id(value))
        _follow(vars(value), seen, tensors, depth + 1)
