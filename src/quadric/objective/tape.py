"""The tape: one forward pass of a model, recorded as ATen calls, that carries tangents along.

A `Tape` is a dispatch mode. It sees every ATen call below autograd and keeps those that depend on tensors that require
gradients, as autograd does: views are not calls but geometry over their base, `detach` and `no_grad` stop the tape, and
a tensor changed in place gets a new tangent under the same slot. `jvp` walks the calls with one tangent rule per ATen
operator (`rules/`); a call without a rule gets forward-mode AD of that single call.

    J v = jvp(v),   J = ∂outputs/∂leaves at the values of the recorded pass

Memory: the arguments and outputs that the rules read, which are mostly those that autograd keeps as well.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from quadric.objective.rules.registry import Rule, rule_for

SLOT = "_quadric_slot"
"""Attribute that marks a taped tensor with (token, slot); it lives and dies with the tensor, so no id is ever reused.
The token stands for the tape: were it the tape itself, tape and tensors would keep each other alive."""

VIEW = "_quadric_view"
"""Attribute that marks, with the token, a view taken in a reverse pass: without a graph it shows no other sign."""


@dataclass(slots=True)
class Read:
    """How to read the tangent of a tensor: slot of its base and, for a view, its geometry relative to the base."""

    slot: int
    size: torch.Size | None = None
    stride: tuple[int, ...] = ()
    offset: int = 0


@dataclass(slots=True)
class Call:
    """One recorded ATen call.

    `reads` has one entry per positional argument: None, a `Read`, or a list of those for a list of tensors. `writes`
    has one per output. `target` is set for a call that changes its first argument in place.
    """

    func: Any
    rule: Rule
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    outputs: tuple[Any, ...]
    reads: list[Any]
    writes: list[int | None]
    target: Read | None = None
    frees: tuple[int, ...] = ()

    @property
    def output(self) -> Tensor:
        """The first output."""
        return self.outputs[0]  # type: ignore[no-any-return]


@dataclass(slots=True)
class _Slot:
    """The layout that a tangent needs once it is read through a view."""

    size: torch.Size
    stride: tuple[int, ...]
    dtype: torch.dtype
    device: torch.device


@dataclass(slots=True)
class _Operator:
    """What the tape needs to know of an ATen operator; looked up once per operator."""

    view: bool
    constant: bool
    in_place: bool
    changes_shape: bool
    rule: Rule


_OPERATORS: dict[Any, _Operator] = {}

_CONSTANT = ("ones_like", "zeros_like", "empty_like", "full_like", "new_", "rand_like", "randn_like", "sgn", "sign.")
"""Beginnings of the names of operators whose result does not move with their arguments' values."""


def _operator(func: Any) -> _Operator:
    known = _OPERATORS.get(func)
    if known is None:
        writes = [a.alias_info is not None and a.alias_info.is_write for a in func._schema.arguments]
        known = _OPERATORS[func] = _Operator(
            view=bool(func.is_view),
            constant=func.name().removeprefix("aten::").startswith(_CONSTANT),
            in_place=bool(writes) and writes[0],
            changes_shape=torch.Tag.inplace_view in func.tags,
            rule=rule_for(func),
        )
    return known


@dataclass
class Untaped(Exception):
    """The tape has a hole: a value that autograd follows and the tape does not. The reason is for people."""

    reason: str

    def __str__(self) -> str:
        return self.reason


class Tape(TorchDispatchMode):
    """Record the calls made inside the `with` block; afterwards `jvp` carries tangents along them.

    `hole` says why the recording is not complete (None when it is): a custom `autograd.Function`, say, is opaque to it.
    """

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """torch wraps a mode's handler to keep its compiler out, which costs more than the handler; not needed here."""
        return False

    def __init__(self, *, reversible: bool = False) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.calls: list[Call] = []
        self.hole: str | None = None
        self._token = object()
        self._slots: list[_Slot] = []
        self._leaves: dict[int, tuple[Tensor, int]] = {}
        self._kept: dict[int, list[tuple[Call, str, int]]] = {}
        self._outputs: list[Read | None] = []
        self._made: dict[int, list[tuple[Tensor, int]]] | None = {} if reversible else None
        self._first_reverse_slot: int | None = None

    # ---- recording

    def reverse(self) -> None:
        """From here on record a reverse pass through what was recorded, run without a graph of its own.

        Autograd hands the values it saved to the backward calls as new tensor objects; those that carry gradients are
        known again by their memory (`reversible=True` keeps all of it until `finish`).
        """
        self._first_reverse_slot = len(self._slots)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run the call and keep it if it depends on a leaf."""
        known = _operator(func)
        forward = self._first_reverse_slot is None
        if known.view or known.constant or (forward and not torch.is_grad_enabled()):
            out = func(*args, **kwargs) if kwargs else func(*args)
            if known.view and not forward and self._read(args[0]) is not None:
                for view in out if isinstance(out, (list, tuple)) else (out,):
                    setattr(view, VIEW, self._token)
            return out
        reads = []
        live = False
        for arg in args:
            read: Any = None
            if isinstance(arg, Tensor):
                if arg.requires_grad or not forward:
                    read = self._read(arg)
                    live |= read is not None
            elif isinstance(arg, (list, tuple)) and arg and any(isinstance(a, Tensor) for a in arg):
                parts = [self._read(a) if isinstance(a, Tensor) else None for a in arg]
                if any(part is not None for part in parts):
                    read, live = parts, True
            reads.append(read)
        if kwargs and any(isinstance(a, Tensor) and self._read(a) is not None for a in kwargs.values()):
            self.hole = self.hole or f"{func} takes a differentiable tensor by keyword"
        if not live:
            if known.in_place and isinstance(args[0], Tensor):
                self._detach_kept(args[0])
            return func(*args, **kwargs) if kwargs else func(*args)
        return self._record(known, func, args, kwargs or {}, reads)

    def _record(self, known: _Operator, func: Any, args: Any, kwargs: dict[str, Any], reads: list[Any]) -> Any:
        before = args
        if known.changes_shape:
            self.hole = self.hole or f"{func} changes the shape of a tensor in place"
        if known.in_place:
            self._detach_kept(args[0])
            if known.rule.keeps & {"arguments", "others"}:
                before = (args[0].detach().clone(), *args[1:])
        out = func(*args, **kwargs)
        outputs = out if isinstance(out, (tuple, list)) else (out,)
        target = None
        if known.in_place:
            if out is not args[0]:
                self.hole = self.hole or f"{func} changes an argument that is not its result"
                return out
            target = self._write_target(args[0])
            writes: list[int | None] = [target.slot]
        else:
            writes = [self._new_slot(o) if isinstance(o, Tensor) and o.is_floating_point() else None for o in outputs]
            if not any(w is not None for w in writes):
                if any(isinstance(o, Tensor) and o.is_complex() for o in outputs):
                    self.hole = self.hole or f"{func} makes complex numbers"
                return out
        if known.rule.random:
            self.hole = self.hole or f"{func} draws random numbers and has no tangent rule"
        call = Call(func, known.rule, before, kwargs, tuple(outputs), reads, writes, target)
        self._drop_unread(call)
        self.calls.append(call)
        return out

    def _drop_unread(self, call: Call) -> None:
        """Forget the differentiable tensors that the call's rule does not read; note where the others are kept."""
        keeps = call.rule.keeps
        if "arguments" not in keeps:
            alone = "others" not in keeps or sum(r is not None for r in call.reads) < 2
            call.args = tuple(
                None if isinstance(r, Read) and alone else [None] * len(r) if isinstance(r, list) else a
                for a, r in zip(call.args, call.reads, strict=True)
            )
        if "output" not in keeps:
            call.outputs = ()
        for where, values in (("args", call.args), ("outputs", call.outputs)):
            for i, value in enumerate(values):
                for t in value if isinstance(value, (list, tuple)) else (value,):
                    if isinstance(t, Tensor):
                        self._kept.setdefault(t.untyped_storage()._cdata, []).append((call, where, i))

    def _detach_kept(self, tensor: Tensor) -> None:
        """Before `tensor` is changed in place, give calls that keep its memory a copy of the present values."""
        for call, where, i in self._kept.pop(tensor.untyped_storage()._cdata, ()):
            values = list(getattr(call, where))
            value = values[i]
            values[i] = [v.clone() for v in value] if isinstance(value, (list, tuple)) else value.detach().clone()
            setattr(call, where, tuple(values))

    def _new_slot(self, tensor: Tensor) -> int:
        slot = len(self._slots)
        self._slots.append(_Slot(tensor.shape, tensor.stride(), tensor.dtype, tensor.device))
        setattr(tensor, SLOT, (self._token, slot))
        if self._made is not None and self._first_reverse_slot is None:
            self._made.setdefault(tensor.untyped_storage()._cdata, []).append((tensor, slot))
        return slot

    def _slot_of(self, base: Tensor) -> int | None:
        """Slot of a tensor that is nobody's view; leaves get theirs when first met."""
        if base.is_leaf and base.requires_grad:
            known = self._leaves.get(id(base))
            if known is None:
                slot = len(self._slots)
                self._slots.append(_Slot(base.shape, base.stride(), base.dtype, base.device))
                known = self._leaves[id(base)] = (base, slot)
            return known[1]
        token, number = getattr(base, SLOT, (None, 0))
        return number if token is self._token else None

    def _read(self, tensor: Tensor) -> Read | None:
        """How to read the tangent of a tensor; None for one that no gradient flows through."""
        base = tensor._base if tensor._is_view() else tensor
        assert base is not None
        if not tensor.requires_grad and not self._in_reverse(tensor, base):
            return None
        if tensor.is_leaf and tensor.requires_grad and (self._first_reverse_slot is None or id(tensor) in self._leaves):
            base = tensor
        slot = self._slot_of(base)
        if slot is None and self._made is not None and base.requires_grad:
            base, slot = self._saved(base)
        if slot is None:
            self.hole = self.hole or (
                f"a tensor of shape {list(tensor.shape)} made by {_origin(tensor)} came from outside the tape"
            )
            return None
        if base is tensor:
            return Read(slot)
        if base.dtype != tensor.dtype:
            self.hole = self.hole or "a view with another dtype than its base"
            return None
        return Read(slot, tensor.shape, tensor.stride(), int(tensor.storage_offset() - base.storage_offset()))

    def _saved(self, tensor: Tensor) -> tuple[Tensor, int | None]:
        """The tensor of the forward pass that autograd saved as this one: same memory, same place in it."""
        made = (self._made or {}).get(tensor.untyped_storage()._cdata, [])
        for known, slot in reversed(made):
            if known.storage_offset() == tensor.storage_offset() and known.shape == tensor.shape:
                return known, slot
        return made[0] if len(made) == 1 else (tensor, None)

    def _in_reverse(self, tensor: Tensor, base: Tensor) -> bool:
        """Whether a tensor without gradient belongs to the reverse pass: made there, or there a view of what counts."""
        first = self._first_reverse_slot
        if first is None:
            return False
        token, slot = getattr(base, SLOT, (None, -1))
        return (token is self._token and slot >= first) or getattr(tensor, VIEW, None) is self._token

    def _write_target(self, tensor: Tensor) -> Read:
        """Where an in-place call writes; a base that did not depend on any leaf until now starts with zero tangent."""
        base = tensor._base if tensor._is_view() else tensor
        assert base is not None
        slot = self._slot_of(base)
        if slot is None:
            slot = self._new_slot(base)
        if base is tensor:
            return Read(slot)
        return Read(slot, tensor.shape, tensor.stride(), int(tensor.storage_offset() - base.storage_offset()))

    def finish(self, outputs: Sequence[Tensor]) -> None:
        """Name the outputs; drop the calls that do not lead to them and note where each tangent is read last."""
        self._outputs = [self._read(o) for o in outputs]
        needed = {r.slot for r in self._outputs if r is not None}
        done = set(needed)
        calls = []
        for call in reversed(self.calls):
            if not any(w in needed for w in call.writes):
                continue
            slots = {r.slot for r in _flat(call.reads)}
            needed |= slots
            call.frees = tuple(slots - done)
            done |= slots | {w for w in call.writes if w is not None}
            calls.append(call)
        self.calls = calls[::-1]
        self._kept = {}
        self._made = None if self._made is None else {}

    # ---- walking

    def jvp(self, tangents: Sequence[tuple[Tensor, Tensor]]) -> list[Tensor | None]:
        """J v: the tangents of the outputs for (leaf, tangent) pairs; leaves not named have tangent zero.

        Returns one tangent per output, None for an output that depends on none of the leaves named. Raises `Untaped`
        when the recording has a hole. Cost: about twice the forward pass.
        """
        if self.hole is not None:
            raise Untaped(self.hole)
        walk = _Walk(self._slots)
        for leaf, tangent in tangents:
            known = self._leaves.get(id(leaf))
            if known is not None:
                walk.values[known[1]] = tangent
        with torch.no_grad():
            for call in self.calls:
                walk.step(call)
            return [None if read is None else walk.read(read) for read in self._outputs]


class _Walk:
    """One pass of tangents along the tape."""

    def __init__(self, slots: list[_Slot]) -> None:
        self.slots = slots
        self.values: dict[int, Tensor] = {}
        self.owned: set[int] = set()

    def step(self, call: Call) -> None:
        """Carry the tangents over one call."""
        tangents = [
            None if r is None else self.read(r) if isinstance(r, Read) else self._read_list(r) for r in call.reads
        ]
        if all(t is None for t in tangents):
            return
        results = call.rule.apply(call, *tangents)
        if results is None or isinstance(results, Tensor):
            results = (results,)
        for slot in call.frees:
            self.values.pop(slot, None)
        if call.target is not None:
            self._write(call.target, results[0])
            return
        for write, result in zip(call.writes, results, strict=False):
            if write is not None and result is not None:
                aliased = self.owned and any(result is t for t in tangents)
                self.values[write] = result.clone() if aliased else result

    def read(self, read: Read) -> Tensor | None:
        """The tangent of a tensor, None for zero."""
        value = self.values.get(read.slot)
        if value is None:
            return None
        if read.size is None:
            return value
        slot = self.slots[read.slot]
        if value.stride() != slot.stride:
            value = self.values[read.slot] = _laid_out(value, slot)
        return value.as_strided(read.size, read.stride, value.storage_offset() + read.offset)

    def _read_list(self, reads: list[Read | None]) -> list[Tensor | None] | None:
        tangents = [None if r is None else self.read(r) for r in reads]
        return None if all(t is None for t in tangents) else tangents

    def _write(self, target: Read, result: Tensor | None) -> None:
        """Store the tangent of a tensor changed in place; None is zero. Through a view, the rest of its base stays."""
        if target.size is None:
            self.owned.discard(target.slot)
            if result is None:
                self.values.pop(target.slot, None)
            else:
                self.values[target.slot] = result
            return
        slot = self.slots[target.slot]
        value = self.values.get(target.slot)
        if value is None:
            value = torch.empty_strided(slot.size, slot.stride, dtype=slot.dtype, device=slot.device).zero_()
        elif target.slot not in self.owned:
            value = _laid_out(value, slot)
        part = value.as_strided(target.size, target.stride, value.storage_offset() + target.offset)
        part.zero_() if result is None else part.copy_(result)
        self.values[target.slot] = value
        self.owned.add(target.slot)


def _laid_out(value: Tensor, slot: _Slot) -> Tensor:
    """A copy of a tangent with the strides of its value."""
    return torch.empty_strided(slot.size, slot.stride, dtype=value.dtype, device=value.device).copy_(value)


def _flat(reads: list[Any]) -> list[Read]:
    return [r for read in reads for r in (read if isinstance(read, list) else (read,)) if r is not None]


def _origin(tensor: Tensor) -> str:
    node = tensor.grad_fn
    return type(node).__name__ if node is not None else "nobody"
