"""What was computed for one batch, kept for as long as nothing it depends on has changed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

from quadric.core.randomness import RandomState, Seed
from quadric.objective.batch import Batch
from quadric.objective.fingerprint import Fingerprint
from quadric.objective.isolation import untouched
from quadric.objective.objective import Objective

Local = TypeVar("Local")


class Retained(Generic[Local]):
    """A value made from an objective and one batch, made anew when model, loss or batch have changed.

    The very first use, if it is said to be for `once`, keeps nothing, since it may be the only one: it costs less time
    and memory.
    """

    def __init__(self) -> None:
        self._used = False
        self._kept: tuple[Fingerprint, Local] | None = None

    def get(
        self, objective: Objective, batch: Batch, make: Callable[[], Local], seed: Seed, once: bool
    ) -> tuple[Local, bool]:
        """The value, and whether it is kept. `make` runs on copies of the buffers with the random numbers of `seed`."""
        if self._kept is not None and self._kept[0].fits(objective, batch):
            return self._kept[1], True
        self._kept = None
        with untouched(objective.model, RandomState.seeded(seed, objective.space.device)):
            value = make()
        if once and not self._used:
            self._used = True
            return value, False
        self._kept = Fingerprint(objective, batch), value
        return value, True
