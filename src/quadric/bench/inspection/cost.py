"""What the parts of an inspection will take: about so many products, seconds and bytes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch

from quadric.bench.inspection.parts import Part
from quadric.bench.inspection.point import Point
from quadric.bench.inspection.subject import Subject
from quadric.core.memory import memory_limit

FORWARD = 1 / 3
"""An evaluation's share of the time of a gradient."""


@dataclass(frozen=True)
class Cost:
    """Of one part. `seconds` follow from one timed product, `bytes` are for the vectors that the part keeps."""

    part: Part
    seconds: float
    bytes: int


def costs(parts: Sequence[Part], point: Point, subject: Subject) -> list[Cost]:
    """The cost of each part."""
    return [
        Cost(
            part,
            part.products * point.product_seconds[part.curvature] + part.evaluations * FORWARD * point.gradient_seconds,
            _bytes(part, subject),
        )
        for part in parts
    ]


def check_room(parts: Sequence[Part], subject: Subject) -> None:
    """Raise ValueError where the vectors of a part need more memory than the process, or the GPU, can have."""
    there = memory_limit(subject.settings.device)
    for part in parts:
        needed = _bytes(part, subject)
        if there is not None and needed > there:
            raise ValueError(
                f"{part.title}: with n = {subject.dimension:,} parameters this keeps about {part.vectors:,} vectors "
                f"of n numbers, {size(needed)}, and the memory is {size(there)} in all. Ask for fewer eigenvalues "
                "(--top), or look at fewer parameters (--params)."
            )


@contextmanager
def within_memory() -> Iterator[None]:
    """Turn an error for want of memory into one that says what to do."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        known = isinstance(error, (torch.OutOfMemoryError, MemoryError)) or "can't allocate memory" in str(error)
        if not known:
            raise
        said = str(error).split(". ")[0] or "MemoryError"
        raise RuntimeError(f"Out of memory ({said}). Split batches with --microbatch, or use less of --top.") from error


def size(count: int) -> str:
    """Bytes in a unit that suits them."""
    amount, units = float(count), ["bytes", "kB", "MB", "GB", "TB"]
    while amount >= 1000 and len(units) > 1:
        amount, units = amount / 1000, units[1:]
    return f"{amount:.3g} {units[0]}"


def _bytes(part: Part, subject: Subject) -> int:
    return part.vectors * subject.dimension * subject.objective.space.dtype.itemsize
