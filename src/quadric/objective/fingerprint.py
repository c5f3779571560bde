"""What a linearisation depends on, so that a retained one is used only while all of it is as it was."""

from __future__ import annotations

import types
from collections import deque
from collections.abc import Iterable
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.utils.data import DataLoader, Dataset

from quadric.objective.batch import Batch

if TYPE_CHECKING:
    from quadric.objective.objective import Objective

_ATOMS = frozenset({int, float, complex, bool, str, bytes, type(None)})
_SEQUENCES = (list, tuple, set, frozenset, deque)
_OPAQUE = (types.BuiltinFunctionType, types.ModuleType, types.CodeType, type, Dataset, DataLoader, Optimizer)
_DEPTH = 16
_OBJECT = 4
_SAMPLE = 64


class Fingerprint:
    """The values of parameters, buffers and batch, and the plain attributes of every module and of the loss.

    Tensors count by value, so a change through `.data` or shared memory is seen: the 64-bit sum of their bits changes
    with any one number, and a sample of them with their order. Plain attributes (numbers, strings, flags, arrays,
    containers and objects of those) are followed into `model.config.scale` and the like, functions into what they close
    over and the objective's own as well. State elsewhere can't be seen (a global variable, say), except for autocast.
    Cost: one reading of parameters, buffers and batch; memory: none to speak of.
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
    device = objective.parameters[0].device.type
    seen: list[Any] = [torch.is_autocast_enabled(device), torch.get_autocast_dtype(device)]
    tensors: list[Tensor] = []
    follow = _Follow(seen, tensors)
    follow(objective.model, 0)
    if objective.loss is not None:
        follow(objective.loss.function, 0)
    for function in (objective.prediction, objective._loss_of, objective.normalizer, objective.unpack):
        if function is not None:
            follow(function, 0)
    tensors.extend(batch.tensors())
    return seen, tensors


class _Follow:
    """Append what identifies a value: atoms and arrays by value, the rest by identity and contents; and the tensors.

    A module's children are followed to any depth, other objects to a few levels; each once, unless met again nearer by.
    """

    def __init__(self, seen: list[Any], tensors: list[Tensor]) -> None:
        self.seen = seen
        self.tensors = tensors
        self.met: dict[int, int] = {}

    def __call__(self, value: Any, depth: int) -> None:
        """Follow one value; an object deepens by `_OBJECT`, a container by 1."""
        seen = self.seen
        if type(value) in _ATOMS:
            seen.append(value)
            return
        if isinstance(value, Tensor):
            seen.append((id(value), value.requires_grad))
            self.tensors.append(value)
            return
        number = id(value)
        if depth >= _DEPTH or self.met.get(number, _DEPTH) <= depth:
            seen.append(number)
            return
        self.met[number] = depth
        if isinstance(value, nn.Module):
            self.module(value, depth)
        elif isinstance(value, dict):
            for key, part in value.items():
                seen.append(key if type(key) in _ATOMS else id(key))
                self(part, depth + 1)
        elif isinstance(value, _SEQUENCES):
            seen.append(len(value))
            for part in value:
                self(part, depth + 1)
        elif isinstance(value, (np.ndarray, np.generic)):
            seen.append((value.shape, value.dtype.str, hash(value.tobytes())))
        else:
            self.object(value, depth + _OBJECT)

    def module(self, value: nn.Module, depth: int) -> None:
        """Its attributes, and its children as near as it is itself."""
        seen = self.seen
        seen.append(id(value))
        for key, part in value.__dict__.items():
            if type(part) in _ATOMS:
                seen.append(part)
            elif key == "_modules":
                for name, child in part.items():
                    seen.append(name)
                    self(child, 0)
            elif not isinstance(part, (dict, set)) or part:
                seen.append(key)
                self(part, depth + _OBJECT)

    def object(self, value: Any, depth: int) -> None:
        """What a function, a bound method, a partial or any other object holds."""
        if isinstance(value, types.MethodType):
            parts: Iterable[Any] = (value.__self__, value.__func__)
        elif isinstance(value, partial):
            parts = (value.func, value.args, value.keywords)
        else:
            self.seen.append(id(value))
            if isinstance(value, _OPAQUE) or type(value).__module__.startswith("quadric."):
                return
            if isinstance(value, types.FunctionType):
                self.seen.append(id(value.__code__))
                parts = (value.__defaults__, value.__kwdefaults__, *map(_content, value.__closure__ or ()))
            else:
                parts = [slot.__get__(value) for slot in _slots(type(value)) if hasattr(value, slot.__name__)]
        for part in parts:
            self(part, depth)
        if hasattr(value, "__dict__"):
            self(vars(value), depth)


def _content(cell: types.CellType) -> Any:
    """What a closure holds of a variable; None for one not yet assigned."""
    try:
        return cell.cell_contents
    except ValueError:
        return None


def _slots(kind: type) -> Iterable[types.MemberDescriptorType]:
    """The attributes that a class and its bases declare in `__slots__`."""
    for base in kind.__mro__:
        if "__slots__" in vars(base):
            yield from (part for part in vars(base).values() if isinstance(part, types.MemberDescriptorType))
