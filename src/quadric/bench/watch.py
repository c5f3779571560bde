"""What a run shows of itself while it goes on, and when it is over."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal

from torch import Tensor

Status = Literal["running", "solved", "finished", "diverged", "gave up", "interrupted"]


@dataclass
class Watch:
    """Told the loss and the weights before each step of a run, says whether the run goes on.

    Steps are counted from 1. A run is over at the first step whose loss before it moves is below `threshold`, is not
    within `bounds` or not a number, or that is number `most_steps`; `status` and `reason` say which. With `keep`,
    `path` has the weights before each step and `losses` the losses.
    """

    most_steps: int
    threshold: float = -math.inf
    bounds: tuple[float, float] = (-math.inf, math.inf)
    keep: bool = False
    steps: int = 0
    status: Status = "running"
    reason: str = ""
    losses: list[float] = field(default_factory=list)
    path: list[list[float]] = field(default_factory=list)

    @property
    def solved(self) -> bool:
        """Whether the run met its threshold."""
        return self.status == "solved"

    @property
    def over(self) -> bool:
        """Whether the run is."""
        return self.status != "running"

    def see(self, loss: float, weights: Tensor) -> bool:
        """Note one step; True while the run goes on."""
        if self.over:
            return False
        self.steps += 1
        if self.keep:
            self.losses.append(loss)
            self.path.append(weights.flatten().tolist())
        if loss < self.threshold:
            self.end("solved", f"solved in {self.steps:,} steps")
        elif not (math.isfinite(loss) and self.bounds[0] <= loss <= self.bounds[1]):
            self.end("diverged", f"the loss of step {self.steps:,} is {loss:.3g}")
        elif self.steps >= self.most_steps:
            self.end("finished", f"{self.steps:,} steps done")
        return not self.over

    def end(self, status: Status, reason: str) -> None:
        """The run is over."""
        self.status, self.reason = status, reason
