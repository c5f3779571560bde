"""What a line search hands back."""

from __future__ import annotations

from dataclasses import dataclass

CONDITIONS_MET = "the conditions hold"
NOT_DESCENT = "the direction does not descend"
NOISE = "no step length lowers f by more than its rounding error"
UNBOUNDED = "f falls without end along the direction: it seems unbounded below"
EXHAUSTED = "no step length that was tried satisfies the conditions"
NOT_FINITE = "f is not finite at any step length that was tried"


@dataclass(frozen=True)
class LineSearch:
    """A step length α, φ(α), and how far to trust it.

    Where the conditions hold `converged` is True. Else `alpha` is the best step length seen, 0 where none lowered φ,
    and `reason` says why the search ended. `slope` is φ′(α) where it was measured. `evaluations` counts those of φ.
    """

    alpha: float
    value: float
    slope: float | None
    converged: bool
    evaluations: int
    reason: str
