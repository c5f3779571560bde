"""How much work was done, in units that no machine changes: passes through models, counted as the engine makes them."""

from __future__ import annotations

from dataclasses import dataclass, replace


@dataclass
class Passes:
    """Counts: `forward` runs of a model, `backward` (reverse) passes through one, and `curvature` products.

    A curvature product is one tangent pass J v, whose reverse pass, if it has one, counts under `backward`; or one
    Hessian product H v. Each pass over a micro-batch or a share of a batch counts as one.
    """

    forward: int = 0
    backward: int = 0
    curvature: int = 0

    def now(self) -> Passes:
        """The counts as they stand, which later passes do not change."""
        return replace(self)

    def add_since(self, before: Passes) -> None:
        """Add what this process has done since `before`, a `PASSES.now()`."""
        self.forward += PASSES.forward - before.forward
        self.backward += PASSES.backward - before.backward
        self.curvature += PASSES.curvature - before.curvature


PASSES = Passes()
"""What this process has done so far."""
