"""The time that watching a training may take, as a share of the time that the training itself takes."""

from __future__ import annotations

import math
from collections.abc import Callable
from types import TracebackType


def share_of(budget: float | str | None) -> float | None:
    """The share that "2%" or 0.02 stands for; None stays. Raises ValueError for one outside (0, 1]."""
    if budget is None:
        return None
    try:
        if isinstance(budget, str):
            share = float(budget.removesuffix("%")) / (100 if budget.endswith("%") else 1)
        else:
            share = math.nan if isinstance(budget, bool) else float(budget)
    except (TypeError, ValueError):
        share = math.nan
    if not 0 < share <= 1:
        raise ValueError(
            f"Expected a budget above 0 and up to 1, a share of training time such as '2%' or 0.02, got {budget!r}; "
            "None sets no limit."
        )
    return share


class Allowance:
    """Adds up the seconds `spent` within its `with` blocks, and those of `training` in between.

    Nothing is known of the time before the first block.
    """

    def __init__(self, share: float | None, clock: Callable[[], float]) -> None:
        self.share = share
        self.clock = clock
        self.training = 0.0
        self.gaps = 0
        """How often training went on between two blocks."""
        self._spent = 0.0
        self._entered: float | None = None
        self._left: float | None = None

    def __enter__(self) -> None:
        self._entered = self.clock()
        if self._left is not None:
            self.training += self._entered - self._left
            self.gaps += 1

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._left = self.clock()
        assert self._entered is not None
        self._spent += self._left - self._entered
        self._entered = None

    @property
    def spent(self) -> float:
        """Seconds within blocks, the present one included."""
        return self._spent + (0.0 if self._entered is None else self.clock() - self._entered)

    def resume(self, training: float, spent: float) -> None:
        """Go on from what an earlier process had added up."""
        self.training, self._spent = training, spent

    def waited(self, seconds: float) -> None:
        """Count the last `seconds` of this block as training: it waited for work that training had handed out."""
        if self._left is not None:
            self.training += seconds
        assert self._entered is not None
        self._entered += seconds

    def affords(self, seconds: float, since: float = 0.0) -> bool:
        """Whether so many seconds more keep within the share: of all training, and of that since it was `since` long.

        The second keeps expenses apart where there is time to spare.
        """
        return self.share is None or (
            self.spent + seconds <= self.share * self.training and seconds <= self.share * (self.training - since)
        )
