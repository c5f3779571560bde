"""What a linearisation depends on, so that a retained one is used only while all of it is as it was."""

from __future__ import annotations

import types
from collections import deque
from collections.abc import Callable, Iterable
from functools import partial
from operator import is_
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.utils.data import DataLoader, Dataset

from quadric.core.precision import Autocast
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
        follow = _Follow()
        self._roots = _roots(objective)
        for root in self._roots:
            follow(root, 0)
        self._held = follow.held
        self._empty = follow.empty
        self._tensors = list(follow.tensors.values())
        self._watched = [_Watched(t) for t in _strided(self._tensors, batch)]

    def fits(self, objective: Objective, batch: Batch) -> bool:
        """Whether nothing has changed since."""
        if any(self._empty) or not _same(_roots(objective), self._roots):
            return False
        if not all(_same(contents(holder), then) for holder, contents, then in self._held):
            return False
        tensors = _strided(self._tensors, batch)
        return len(tensors) == len(self._watched) and all(
            w.fits(t) for w, t in zip(self._watched, tensors, strict=True)
        )


def _roots(objective: Objective) -> tuple[Any, ...]:
    """Where everything that counts hangs, and the modes of torch that count."""
    autocast = Autocast.of_models(objective.parameters[0].device)
    return (
        *(objective.model, None if objective.loss is None else objective.loss.function),
        *(objective.prediction, objective._loss_of, objective.normalizer, objective.unpack),
        *(autocast.enabled, autocast.dtype),
    )


def _same(now: tuple[Any, ...], then: tuple[Any, ...]) -> bool:
    """Whether both hold the same objects; numbers and strings may be equal instead."""
    if len(now) != len(then):
        return False
    return all(map(is_, now, then)) or all(
        a is b or (type(a) in _ATOMS and type(a) is type(b) and a == b) for a, b in zip(now, then, strict=True)
    )


_PARTS = {
    torch.sparse_coo: ("_indices", "_values"),
    **dict.fromkeys((torch.sparse_csr, torch.sparse_bsr), ("crow_indices", "col_indices", "values")),
    **dict.fromkeys((torch.sparse_csc, torch.sparse_bsc), ("ccol_indices", "row_indices", "values")),
}
"""The tensors that a sparse tensor is made of, by layout."""


def _strided(tensors: Iterable[Tensor], batch: Batch) -> list[Tensor]:
    """The tensors and those of the batch, sparse ones as what they are made of."""
    found: list[Tensor] = []
    for tensor in (*tensors, *batch.tensors()):
        if tensor.layout is torch.strided:
            found.append(tensor)
        else:
            found.extend(getattr(tensor, part)() for part in _PARTS[tensor.layout])
    return found


class _Watched:
    """A tensor's place and, as 64-bit integers, the sum of its bits and a sample of them."""

    def __init__(self, tensor: Tensor) -> None:
        self.place = _place(tensor)
        flat = tensor.detach().reshape(-1)
        self.shares_memory = flat.data_ptr() == tensor.data_ptr()
        self.words, self.rest = _words(flat)
        self.every = max(1, len(self.words) // _SAMPLE)
        self.digest = self._digest()

    def fits(self, tensor: Tensor) -> bool:
        """Whether it is the same memory with the same values."""
        if _place(tensor) != self.place:
            return False
        return self._digest() == self.digest if self.shares_memory else _Watched(tensor).digest == self.digest

    def _digest(self) -> tuple[Any, ...]:
        words = self.words
        if isinstance(words, Tensor):
            return int(words.sum()), words[:: self.every].tolist(), self.rest.tolist()
        if len(words) <= _SAMPLE:
            return words.tobytes(), self.rest.tobytes()
        return int(np.add.reduce(words)), words[:: self.every].tobytes(), self.rest.tobytes()


def _words(flat: Tensor) -> tuple[Any, Any]:
    """The same memory as 64-bit integers, and the bytes that are left over; on the CPU for NumPy, which is quicker."""
    whole = flat.numel() * flat.itemsize // 8 * 8
    if flat.device.type == "cpu":
        array = flat.view(torch.uint8).numpy()
        return array[:whole].view(np.int64), array[whole:]
    if flat.storage_offset() * flat.itemsize % 8:
        flat = flat.clone()  # torch wants 64-bit integers aligned
    octets = flat.view(torch.uint8)
    return octets[:whole].view(torch.int64), octets[whole:]


def _place(tensor: Tensor) -> tuple[Any, ...]:
    """Where and what it is, and autograd's count of its changes in place: a graph that saved it holds for one count."""
    changes = 0 if tensor.is_inference() else tensor._version
    return changes, tensor.data_ptr(), tensor.shape, tensor.stride(), tensor.dtype, tensor.device, tensor.requires_grad


class _Follow:
    """Note what every object holds that can be reached, and the tensors.

    `held` has for every object the function that lists its contents, and the contents. A module's children are followed
    to any depth, other objects to a few levels; each once, unless met again nearer by.
    """

    def __init__(self) -> None:
        self.held: list[tuple[Any, Callable[[Any], tuple[Any, ...]], tuple[Any, ...]]] = []
        self.empty: list[Any] = []
        """Containers that hold nothing: of a module's attributes most, and quick to look at again."""
        self.tensors: dict[int, Tensor] = {}
        self.met: dict[int, int] = {}

    def __call__(self, value: Any, depth: int) -> None:
        """Follow one value; an object deepens by `_OBJECT`, a container by 1."""
        if type(value) in _ATOMS:
            return
        number = id(value)
        if isinstance(value, Tensor):
            self.tensors[number] = value
            return
        if depth >= _DEPTH or self.met.get(number, _DEPTH) <= depth:
            return
        self.met[number] = depth
        if isinstance(value, nn.Module):
            self.module(value, depth)
        elif isinstance(value, (dict, *_SEQUENCES)):
            if not value:
                self.empty.append(value)
            else:
                self.parts(value, _entries if isinstance(value, dict) else tuple, depth + 1)
        elif isinstance(value, (np.ndarray, np.generic)):
            self.parts(value, _array, depth)
        else:
            self.object(value, depth + _OBJECT)

    def parts(self, value: Any, contents: Callable[[Any], tuple[Any, ...]], depth: int) -> None:
        """Note what an object holds, and follow that."""
        now = contents(value)
        self.held.append((value, contents, now))
        for part in now:
            self(part, depth)

    def module(self, value: nn.Module, depth: int) -> None:
        """Its attributes, and its children as near as it is itself."""
        for child in value._modules.values():
            self(child, 0)
        self.parts(value, _attributes, depth + _OBJECT)

    def object(self, value: Any, depth: int) -> None:
        """What a function, a bound method, a partial or any other object holds."""
        if isinstance(value, types.MethodType):
            self(value.__self__, depth)
            self(value.__func__, depth)
            return
        if isinstance(value, _OPAQUE) or type(value).__module__.startswith("quadric."):
            return
        if isinstance(value, partial):
            self.parts(value, _bound, depth)
        elif isinstance(value, types.FunctionType):
            self.parts(value, _closed_over, depth)
        elif any(_slots(type(value))):
            self.parts(value, _slotted, depth)
        if hasattr(value, "__dict__"):
            self.parts(value, _attributes, depth)


# ---- what an object holds, as a tuple


def _entries(value: dict[Any, Any]) -> tuple[Any, ...]:
    return (*value, *value.values())


def _attributes(value: Any) -> tuple[Any, ...]:
    return (*value.__dict__, *value.__dict__.values())


def _array(value: Any) -> tuple[Any, ...]:
    return (hash(value.tobytes()), value.dtype.str, *value.shape)


def _bound(value: partial[Any]) -> tuple[Any, ...]:
    return value.func, value.args, value.keywords


def _closed_over(value: types.FunctionType) -> tuple[Any, ...]:
    cells = map(_content, value.__closure__ or ())
    return (value.__code__, value.__defaults__, value.__kwdefaults__, *cells)


def _content(cell: types.CellType) -> Any:
    """What a closure holds of a variable; None for one not yet assigned."""
    try:
        return cell.cell_contents
    except ValueError:
        return None


def _slotted(value: Any) -> tuple[Any, ...]:
    return tuple([slot.__get__(value) for slot in _slots(type(value)) if hasattr(value, slot.__name__)])


def _slots(kind: type) -> Iterable[types.MemberDescriptorType]:
    """The attributes that a class and its bases declare in `__slots__`."""
    for base in kind.__mro__:
        if "__slots__" in vars(base):
            yield from (part for part in vars(base).values() if isinstance(part, types.MemberDescriptorType))
