"""The tape: one forward pass of a model, recorded as ATen calls, that carries tangents along.

A `Tape` is a dispatch mode. It sees every ATen call below autograd and keeps those that depend on tensors that require
gradients, as autograd does: views are not calls but geometry over their base, `detach` and `no_grad` stop the tape, and
a tensor changed in place gets a new tangent under the same slot. `jvp` walks the calls with one tangent rule per ATen
operator (`rules/`); a call without a rule gets forward-mode AD of that single call.

    J v = jvp(v),   J = ∂outputs/∂leaves at the values of the recorded pass

Memory: the arguments and outputs that the rules read, which are mostly those that autograd keeps as well.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from quadric.objective.rules.registry import Rule, rule_for
from quadric.objective.walk import Layout, View, Walk

SLOT = "_quadric_slot"
"""Attribute that marks a taped tensor with (token, slot); it lives and dies with the tensor, so no id is ever reused.
The token stands for the tape: were it the tape itself, tape and tensors would keep each other alive."""

_NOBODY = (None, -1)

VIEW = "_quadric_view"
"""Attribute that marks, with the token, a view taken in a reverse pass: without a graph it shows no other sign."""


@dataclass(slots=True)
class Call:
    """One recorded ATen call.

    `reads` has one entry per positional argument: None, a slot, a `View` of one, or a list of those for a list of
    tensors. `writes` has one slot per output, `made` the shape and dtype of its value and so of its tangent.
    `target` is set for a call that changes its first argument in place. `frees` are the slots that nobody reads after.
    """

    func: Any
    rule: Rule
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    outputs: tuple[Any, ...]
    reads: list[Any]
    writes: list[int | None]
    made: list[tuple[torch.Size, torch.dtype] | None]
    target: int | View | None = None
    frees: tuple[int, ...] = ()

    @property
    def output(self) -> Tensor:
        """The first output."""
        return self.outputs[0]  # type: ignore[no-any-return]


@dataclass(slots=True)
class _Operator:
    """What the tape needs to know of an ATen operator; looked up once per operator."""

    view: bool
    silent: bool
    """Never recorded: a view, or a result that does not move with the values of the arguments."""
    in_place: bool
    rule: Rule
    hole: str | None
    dropout: int | None
    """Position of an argument `dropout_p`."""


_OPERATORS: dict[Any, _Operator] = {}

_CONSTANT = ("ones_like", "zeros_like", "empty_like", "full_like", "new_", "rand_like", "randn_like", "sgn", "sign.")
"""Beginnings of the names of operators whose result does not move with their arguments' values."""


def _operator(func: Any) -> _Operator:
    known = _OPERATORS.get(func)
    if known is None:
        rule = rule_for(func)
        writes = [a.alias_info is not None and a.alias_info.is_write for a in func._schema.arguments]
        known = _OPERATORS[func] = _Operator(
            view=bool(func.is_view),
            silent=bool(func.is_view) or func.name().removeprefix("aten::").startswith(_CONSTANT),
            in_place=bool(writes) and writes[0],
            rule=rule,
            hole=_hole(func, rule),
            dropout=next((i for i, a in enumerate(func._schema.arguments) if a.name == "dropout_p"), None),
        )
    return known


def _hole(func: Any, rule: Rule) -> str | None:
    """Why a call of this operator can't be taped."""
    if torch.Tag.inplace_view in func.tags:
        return f"{func} changes the shape of a tensor in place"
    return f"{func} draws random numbers and has no tangent rule" if rule.random else None


def _hole_of_call(known: _Operator, func: Any, args: Any) -> str | None:
    """Why this one call can't be taped: its operator can't, or it drops out inside a kernel that tells no mask."""
    if known.dropout is not None and len(args) > known.dropout and args[known.dropout] > 0:
        return f"{func} drops probabilities at random"
    return known.hole


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
        self._slots = 0
        self._layouts: dict[int, Layout] = {}
        self._leaves: dict[int, tuple[Tensor, int]] = {}
        self._outputs: list[int | View | None] = []
        self._made: dict[int, list[tuple[Tensor, int]]] | None = {} if reversible else None
        self._first_reverse_slot: int | None = None
        self._kept_in: dict[int, list[Call]] = {}
        self._calls_indexed = 0
        self._stance: Any = None

    # ---- recording

    def __enter__(self) -> Self:
        """Start recording. What `torch.compile` has made runs as it was written: compiled code would be opaque."""
        if "torch._dynamo" in sys.modules:
            self._stance = torch.compiler.set_stance("force_eager")
        super().__enter__()  # type: ignore[no-untyped-call]
        return self

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        super().__exit__(kind, error, trace)  # type: ignore[no-untyped-call]
        if self._stance is not None:
            self._stance.__exit__(kind, error, trace)
            self._stance = None

    def reverse(self) -> None:
        """From here on record a reverse pass through what was recorded, run without a graph of its own.

        Autograd hands the values it saved to the backward calls as new tensor objects; those that carry gradients are
        known again by their memory (`reversible=True` keeps all of it until `finish`).
        """
        self._first_reverse_slot = self._slots

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run the call and keep it if it depends on a leaf."""
        known = _OPERATORS.get(func) or _operator(func)
        forward = self._first_reverse_slot is None
        if known.silent or (forward and not torch.is_grad_enabled()):
            out = func(*args, **kwargs) if kwargs else func(*args)
            if not forward and known.view and self._read(args[0]) is not None:
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
                    live = live or read is not None
            elif isinstance(arg, (list, tuple)) and arg and any(isinstance(a, Tensor) for a in arg):
                parts = [self._read(a) if isinstance(a, Tensor) else None for a in arg]
                if any(part is not None for part in parts):
                    read, live = parts, True
            reads.append(read)
        if kwargs and any(isinstance(a, Tensor) and self._read(a) is not None for a in kwargs.values()):
            self.hole = self.hole or f"{func} takes a differentiable tensor by keyword"
        if live:
            return self._record(known, func, args, kwargs or {}, reads)
        if known.in_place and isinstance(args[0], Tensor):
            self._copy_kept(args[0])
        return func(*args, **kwargs) if kwargs else func(*args)

    def _record(self, known: _Operator, func: Any, args: Any, kwargs: dict[str, Any], reads: list[Any]) -> Any:
        rule = known.rule
        before = args
        if known.in_place:
            self._copy_kept(args[0])
            if "arguments" in rule.keeps or "others" in rule.keeps:
                before = (args[0].detach().clone(), *args[1:])
        out = func(*args, **kwargs)
        outputs = out if isinstance(out, (tuple, list)) else (out,)
        target = None
        if known.in_place:
            target = self._write_target(args[0])
            writes: list[int | None] = [_slot(target)]
            made: list[Any] = [(args[0].shape, args[0].dtype)]
        else:
            writes = [self._new_slot(o) if isinstance(o, Tensor) and o.is_floating_point() else None for o in outputs]
            if writes == [None] * len(writes):
                if any(isinstance(o, Tensor) and o.is_complex() for o in outputs):
                    self.hole = self.hole or f"{func} makes complex numbers"
                return out
            made = [None if w is None else (o.shape, o.dtype) for w, o in zip(writes, outputs, strict=True)]
        self.hole = self.hole or _hole_of_call(known, func, args)
        if known.in_place and out is not args[0]:
            self.hole = self.hole or f"{func} changes an argument that is not its result"
        kept = before if "arguments" in rule.keeps else _without_unread(before, reads, "others" in rule.keeps)
        left = tuple(outputs) if "output" in rule.keeps else ()
        self.calls.append(Call(func, rule, kept, kwargs, left, reads, writes, made, target))
        return out

    def _copy_kept(self, tensor: Tensor) -> None:
        """Before `tensor` is changed in place, give the calls that keep its memory a copy of the present values.

        The calls are indexed by the memory they keep (and keep alive: no key is reused), each once, when the first
        in-place change after it comes; a tape without such changes pays nothing.
        """
        for call in self.calls[self._calls_indexed :]:
            for key in {t.untyped_storage()._cdata for t in _tensors((call.args, call.outputs))}:
                self._kept_in.setdefault(key, []).append(call)
        self._calls_indexed = len(self.calls)
        memory = tensor.untyped_storage()._cdata

        def saved(value: Any) -> Any:
            if isinstance(value, Tensor):
                return value.detach().clone() if value.untyped_storage()._cdata == memory else value
            return [saved(v) for v in value] if isinstance(value, (list, tuple)) else value

        for call in self._kept_in.pop(memory, ()):
            call.args = tuple(map(saved, call.args))
            call.outputs = tuple(map(saved, call.outputs))

    # ---- which tensor is which

    def _new_slot(self, tensor: Tensor) -> int:
        slot = self._slots
        self._slots += 1
        setattr(tensor, SLOT, (self._token, slot))
        if self._made is not None and self._first_reverse_slot is None:
            self._made.setdefault(tensor.untyped_storage()._cdata, []).append((tensor, slot))
        return slot

    def _slot_of(self, base: Tensor) -> int | None:
        """Slot of a tensor that is nobody's view; leaves get theirs when first met."""
        if base.is_leaf and base.requires_grad:
            known = self._leaves.get(id(base))
            if known is None:
                known = self._leaves[id(base)] = (base, self._slots)
                self._slots += 1
            return known[1]
        token, number = getattr(base, SLOT, _NOBODY)
        return number if token is self._token else None

    def _read(self, tensor: Tensor) -> int | View | None:
        """How to read the tangent of a tensor; None for one that no gradient flows through."""
        if not tensor.is_leaf:
            token, number = getattr(tensor, SLOT, _NOBODY)
            if token is self._token:
                return number
        base = tensor._base if tensor._is_view() else tensor
        assert base is not None
        if not tensor.requires_grad and not self._in_reverse(tensor, base):
            return None
        if (
            base is not tensor
            and tensor.is_leaf
            and tensor.requires_grad
            and (self._first_reverse_slot is None or id(tensor) in self._leaves)
        ):
            base = tensor
        slot = self._slot_of(base)
        if slot is None and self._made is not None and base.requires_grad:
            base, slot = self._saved(base)
        if slot is None:
            made_by = "nobody" if tensor.grad_fn is None else type(tensor.grad_fn).__name__
            self.hole = self.hole or (
                f"a tensor of shape {list(tensor.shape)} made by {made_by} came from outside the tape"
            )
            return None
        return slot if base is tensor else self._view(slot, base, tensor)

    def _view(self, slot: int, base: Tensor, tensor: Tensor) -> View:
        if base.dtype != tensor.dtype:
            self.hole = self.hole or "a view with another dtype than its base"
        if slot not in self._layouts:
            self._layouts[slot] = Layout(base.shape, base.stride(), base.dtype, base.device)
        return View(slot, tensor.shape, tensor.stride(), int(tensor.storage_offset() - base.storage_offset()))

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
        token, slot = getattr(base, SLOT, _NOBODY)
        return (token is self._token and slot >= first) or getattr(tensor, VIEW, None) is self._token

    def _write_target(self, tensor: Tensor) -> int | View:
        """Where an in-place call writes; a base that did not depend on any leaf until now starts with zero tangent."""
        base = tensor._base if tensor._is_view() else tensor
        assert base is not None
        slot = self._slot_of(base)
        if slot is None:
            slot = self._new_slot(base)
        return slot if base is tensor else self._view(slot, base, tensor)

    # ---- afterwards

    def finish(self, outputs: Sequence[Tensor]) -> None:
        """Name the outputs; drop the calls that do not lead to them and note where each tangent is read last."""
        self._outputs = [self._read(o) for o in outputs]
        needed = {_slot(r) for r in self._outputs if r is not None}
        calls = []
        for call in reversed(self.calls):
            if needed.isdisjoint(call.writes):
                continue
            slots = _slots(call.reads)
            call.frees = tuple(slots - needed)
            needed |= slots
            needed.update([w for w in call.writes if w is not None])
            calls.append(call)
        self.calls = calls[::-1]
        self._kept_in = {}
        self._made = None if self._made is None else {}

    def jvp(self, tangents: Sequence[tuple[Tensor, Tensor]]) -> list[Tensor | None]:
        """J v: the tangents of the outputs for (leaf, tangent) pairs; leaves not named have tangent zero.

        Returns one tangent per output, None for an output that depends on none of the leaves named. Raises `Untaped`
        when the recording has a hole. Cost: about twice the forward pass.
        """
        if self.hole is not None:
            raise Untaped(self.hole)
        walk = Walk(self._layouts)
        for leaf, tangent in tangents:
            known = self._leaves.get(id(leaf))
            if known is not None:
                walk.values[known[1]] = tangent
        with torch.no_grad():
            for call in self.calls:
                walk.step(call)
            return [None if read is None else walk.read(read) for read in self._outputs]


def _without_unread(args: tuple[Any, ...], reads: list[Any], others: bool) -> tuple[Any, ...]:
    """The arguments without the differentiable tensors, unless another argument needs them (`others`)."""
    if others and len(reads) - reads.count(None) > 1:
        return args
    return tuple(
        a if r is None else [None] * len(r) if isinstance(r, list) else None for a, r in zip(args, reads, strict=True)
    )


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, (list, tuple)):
        for part in value:
            yield from _tensors(part)


def _slot(read: int | View) -> int:
    return read if isinstance(read, int) else read.slot


def _slots(reads: list[Any]) -> set[int]:
    return {_slot(r) for read in reads for r in (read if isinstance(read, list) else (read,)) if r is not None}
