"""Errors and warnings, and the sentence that an unknown name gets."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


class QuadricWarning(UserWarning):
    """Base of the warnings that quadric gives."""


class StepRejected(QuadricWarning):
    """An optimiser refused a step and restored parameters, state and buffers."""


class NotConverged(QuadricWarning):
    """An iterative algorithm stopped before it met its tolerance."""


class ConvergenceError(RuntimeError):
    """A solver could not reach what was asked of it."""


def unknown_name(kind: str, name: object, known: Iterable[str]) -> ValueError:
    """The error for a `name` that is not among the `known` ones: the nearest of them first, then all."""
    known = sorted(known)
    near = get_close_matches(str(name), known, n=3, cutoff=0.5)
    hint = f" Did you mean {' or '.join(map(repr, near))}?" if near else ""
    return ValueError(f"Unknown {kind} {name!r}.{hint} Known: {', '.join(known)}.")
