"""Model + loss + data as a differentiable function, and the engine of its products."""

from quadric.objective.closure import Closure
from quadric.objective.linearization import Linearization
from quadric.objective.objective import Objective

__all__ = ["Closure", "Linearization", "Objective"]
