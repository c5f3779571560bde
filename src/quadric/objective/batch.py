"""Batches: what a DataLoader yields, taken apart."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence

Unpack = Callable[[Any], tuple[Any, Any]]
NOTHING = "No batch of the data has anything to average over (every D_b is 0)."


@dataclass(frozen=True)
class Batch:
    """Inputs and targets of one batch; `examples` is the size of the batch dimension."""

    inputs: Any
    targets: Any
    examples: int
    share: bool = False
    """Whether it is a part that `split` cut."""

    def call(self, model: Callable[..., Any]) -> Any:
        """The model's outputs: a tuple of inputs is spread as positional arguments, a mapping as keywords."""
        if _spreads(self.inputs):
            return model(*self.inputs)
        if isinstance(self.inputs, Mapping):
            return model(**self.inputs)
        return model(self.inputs)

    def split(self, fraction: float) -> tuple[Batch, Batch]:
        """The first share of its examples, at least one, and the rest.

        Examples lie along the first dimension; a tensor with another first dimension belongs to all of them. Raises
        ValueError where no input has the examples there (an LSTM's inputs with time in front, a graph's nodes).
        """
        count = max(1, round(self.examples * fraction))
        return self._cut(0, count), self._cut(count, self.examples)

    def parts(self, most: int) -> Iterator[Batch]:
        """Itself where it has at most so many examples, else parts of at most so many, in order; raises as `split`."""
        if self.examples <= most:
            yield self
            return
        for first in range(0, self.examples, most):
            yield self._cut(first, min(first + most, self.examples))

    def mapped(self, change: Callable[[Tensor], Tensor]) -> Batch:
        """The same batch with every tensor changed."""
        return replace(self, inputs=_mapped(self.inputs, change), targets=_mapped(self.targets, change))

    def _cut(self, first: int, end: int) -> Batch:
        """The examples from `first` to before `end`."""
        if not any(self._by_example(t) for t in _tensors(self.inputs)):
            shapes = ", ".join(str(list(t.shape)) for t in _tensors(self.inputs)) or type(self.inputs).__name__
            raise ValueError(
                f"A share of this batch can't be taken: its {self.examples} examples are not along the first dimension "
                f"of its inputs ({shapes}). Use the whole batch (curvature_fraction=1; no micro-batches), or put the "
                "examples first."
            )
        cut = self.mapped(lambda t: t[first:end] if self._by_example(t) else t)
        return replace(cut, examples=end - first, share=True)

    @property
    def spread(self) -> int:
        """How many positional arguments the inputs are."""
        return len(self.inputs) if _spreads(self.inputs) else 1

    def _by_example(self, tensor: Tensor) -> bool:
        return tensor.dim() > 0 and tensor.shape[0] == self.examples

    def tensors(self) -> Iterator[Tensor]:
        """Every tensor in it."""
        yield from _tensors(self.inputs)
        yield from _tensors(self.targets)


def take_apart(batch: Any, unpack: Unpack | None = None) -> Batch:
    """The `Batch` of what a loader yields: a pair `(inputs, targets)`, tuple or list, or what `unpack` makes of it.

    Raises TypeError for anything that is not a pair.
    """
    if isinstance(batch, Batch):
        return batch
    pair = batch if unpack is None else unpack(batch)
    if not isinstance(pair, (tuple, list)) or len(pair) != 2:
        got = f"{type(pair).__name__} of {len(pair)}" if isinstance(pair, Sequence) else type(pair).__name__
        raise TypeError(
            f"Expected a batch (inputs, targets), got {got}. "
            "Objective(..., unpack=lambda batch: (inputs, targets)) takes other batches apart."
        )
    inputs, targets = pair
    if isinstance(inputs, list):
        inputs = tuple(inputs)
    return Batch(inputs, targets, _examples(targets) or _examples(inputs) or 1)


def disagreement(batch: Batch) -> str | None:
    """A sentence where the first dimensions of inputs and targets differ, else None.

    No error in itself: an LSTM has time in front, a graph has nodes. It explains a loss that failed.
    """
    inputs, targets = _examples(batch.inputs), _examples(batch.targets)
    if inputs is None or targets is None or inputs == targets:
        return None
    return (
        f"Inputs and targets disagree: {inputs} inputs, {targets} targets (first dimensions). "
        "Each example needs one target."
    )


def check_not_repeated(batch: Batch, outputs: Any) -> None:
    """Raise ValueError where the loss repeats one target for all outputs, or one output for all targets, unasked.

    So broadcasting would have it where inputs and targets differ in number and one of them is 1.
    """
    targets = batch.targets
    if not isinstance(targets, Tensor) or not isinstance(outputs, Tensor) or targets.dim() != outputs.dim():
        return
    if targets.dim() > 0 and targets.shape[0] != outputs.shape[0] and 1 in (targets.shape[0], outputs.shape[0]):
        wrong = disagreement(batch)
        if wrong is not None:
            raise ValueError(wrong)


def is_batch(data: Any, unpack: Unpack | None = None) -> bool:
    """Whether `data` is one batch rather than an iterable of them.

    A pair of pairs, `[(x₁, t₁), (x₂, t₂)]`, is two batches. With `unpack`, a tensor, a mapping, a sequence that
    holds a tensor directly, or an object that can't be iterated is one batch.
    """
    if isinstance(data, (Batch, Mapping)):
        return True
    if unpack is not None:
        if isinstance(data, (tuple, list)):
            return any(isinstance(x, Tensor) for x in data)
        return isinstance(data, Tensor) or not isinstance(data, Iterable)
    if not isinstance(data, (tuple, list)) or len(data) != 2:
        return False
    return not all(isinstance(part, Batch) or (isinstance(part, (tuple, list)) and len(part) == 2) for part in data)


def batches_of(data: Any, unpack: Unpack | None = None) -> Iterable[Batch]:
    """The batches of one batch or of an iterable that can be iterated again."""
    if data is None:
        yield Batch((), None, 1)
        return
    if is_batch(data, unpack):
        yield take_apart(data, unpack)
        return
    if not isinstance(data, Iterable) or isinstance(data, Tensor):
        raise TypeError(f"Expected one batch (inputs, targets) or an iterable of batches, got {type(data).__name__}.")
    if isinstance(data, Iterator):
        raise TypeError(
            "Expected data that can be iterated again, got an iterator: give the DataLoader or a list of batches."
        )
    seen = False
    for batch in data:
        seen = True
        yield take_apart(batch, unpack)
    if not seen:
        raise ValueError("The data holds no batches: the loader is empty.")


def not_finite(batch: Batch) -> str | None:
    """Which part of a batch holds NaN or infinity; None if all is finite."""
    for name, part in (("inputs", batch.inputs), ("targets", batch.targets)):
        for t in _tensors(part):
            if (t.is_floating_point() or t.is_complex()) and not bool(torch.isfinite(t).all()):
                return name
    return None


def _spreads(value: Any) -> bool:
    """Whether a value is several ones; a `PackedSequence` is a tuple to Python, and one input to a model."""
    return isinstance(value, (tuple, list)) and not isinstance(value, PackedSequence)


def _mapped(value: Any, change: Callable[[Tensor], Tensor]) -> Any:
    """The value with every tensor in it changed."""
    if isinstance(value, Tensor):
        return change(value)
    if isinstance(value, Mapping):
        return {key: _mapped(part, change) for key, part in value.items()}
    return tuple(_mapped(part, change) for part in value) if _spreads(value) else value


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, Mapping):
        for v in value.values():
            yield from _tensors(v)
    elif isinstance(value, (tuple, list)):
        for v in value:
            yield from _tensors(v)


def _examples(value: Any) -> int | None:
    """Size of the first dimension of the first tensor that has one."""
    for t in _tensors(value):
        if t.dim() > 0:
            return int(t.shape[0])
    return None
