"""The first look at a subject: loss and gradient, whether it is fit to be looked at, and what a product costs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch

from quadric.bench.inspection.subject import Subject
from quadric.bench.runner import Stopwatch
from quadric.core.errors import ConvergenceError
from quadric.core.memory import growth
from quadric.curvature.regularity import ROUNDING, read
from quadric.linalg.probes import gaussian, seeded
from quadric.linalg.repeatable import check_repeatable
from quadric.objective.batch import Batch
from quadric.problems.own.reference import described

REPEATS = 1e-4
"""Relative change of the loss from one session to the next that rounding may explain."""


KNOWN = (NotImplementedError, ConvergenceError, torch.OutOfMemoryError)
"""Errors that explain themselves, besides those about values."""


@dataclass(frozen=True)
class Point:
    """The loss f over the data and its gradient at the weights, and seconds: of a gradient, and of one product.

    `product_bytes` is what the process grew by at most while these ran, None where the system does not tell.
    """

    loss: float
    gradient_norm: float
    weight_norm: float
    examples: int
    batches: int
    gradient_seconds: float
    product_seconds: dict[str, float]
    product_bytes: int | None
    remarks: list[str]
    convex: bool = False
    """Whether the loss is known to be convex in the outputs, so that the GGN is positive semi-definite."""


def check_unchanged(subject: Subject, curvature: str, earlier: Point) -> None:
    """Raise ValueError where the loss or the number of examples is another than it was, and what `look` does."""
    with explained():
        loss, examples = read(subject.operator(curvature)).loss, sum(_sizes(subject.data))
    if examples != earlier.examples or not abs(loss - earlier.loss) <= REPEATS * abs(earlier.loss):
        raise ValueError(
            f"The loss was {earlier.loss:.9g} over {earlier.examples:,} examples when this inspection began, and "
            f"is {loss:.9g} over {examples:,} now: model code or data have changed. Name another "
            "directory, or add --overwrite."
        )


def look(subject: Subject, curvatures: Iterable[str]) -> Point:
    """Evaluate loss, gradient and one product of each curvature, and time them.

    Raises ValueError where they are not finite, differ between readings, or a curvature is refused; RuntimeError where
    the model or the loss raise something else.
    """
    with explained():
        return _look(subject, curvatures)


@contextmanager
def explained() -> Iterator[None]:
    """Make an error that says nothing by itself a RuntimeError about the model or its loss."""
    try:
        yield
    except Exception as error:
        if isinstance(error, (ValueError, TypeError)) or type(error) in KNOWN:
            raise
        raise RuntimeError(f"The model or its loss failed on the data: {described(error)}") from error


def _look(subject: Subject, curvatures: Iterable[str]) -> Point:
    device, settings = subject.settings.device, subject.settings
    batches = list(_sizes(subject.data))
    gradient, products = Stopwatch(device), {}
    with growth(device) as grown:
        for i, name in enumerate(curvatures):
            operator = subject.operator(name)
            if i == 0:
                with gradient:
                    reading = read(operator)
            check_repeatable(operator)
            watch = Stopwatch(device)
            v = gaussian(operator.space, 1, seeded(settings.seed)).squeeze(1)
            operator @ v  # loads code, starts threads, and retains the linearisation of a single batch
            with watch:
                operator @ v
            products[name] = watch.seconds
    weights = torch.cat([p.detach().double().flatten().cpu() for p in subject.objective.parameters])
    return Point(
        reading.loss,
        float(reading.gradient.double().norm()),
        float(weights.norm()),
        sum(batches),
        len(batches),
        gradient.seconds,
        products,
        grown.bytes,
        [*subject.remarks, *_random(subject)],
        subject.objective.loss is not None and subject.objective.loss.convex,
    )


def _sizes(data: Batch | Iterable[Batch]) -> Iterable[int]:
    return (batch.examples for batch in ([data] if isinstance(data, Batch) else data))


def _random(subject: Subject) -> list[str]:
    """A remark where the loss depends on random numbers: it is compared under two seeds."""
    seed = subject.settings.seed
    first, second = (subject.objective.evaluate(subject.data, s) for s in (seed, seed + 1))
    if abs(first - second) <= ROUNDING * torch.finfo(subject.objective.space.dtype).eps * abs(first):
        return []
    return [
        "The loss depends on random numbers (dropout in train mode, or a loader that augments or composes batches at "
        f"random): all is measured for one fixed draw of them, one dropout mask, that of seed {seed}."
    ]
