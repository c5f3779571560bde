"""BFGS with limited memory."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from quadric.objective.objective import Objective
from quadric.operators.secant import BFGS as INVERSE
from quadric.optim.quasi_newton import PAIRS, QuasiNewton


class LBFGS(QuasiNewton):
    """w ← w − α η H g with H from the last `memory` pairs by the two-loop recursion: see `QuasiNewton`.

    On the whole data set, a step is 20 iterations, as in torch's class of this name. Cost of the direction: 4 n m
    operations and 2 n m numbers. Other arguments, errors and mini-batches as there.
    References: Nocedal (1980); Liu and Nocedal (1989); Nocedal and Wright (2006), algorithm 7.5.
    """

    _secant = INVERSE

    def __init__(
        self,
        params: Objective | Iterable[Any],
        lr: float = 1.0,
        weight_decay: float = 0.0,
        *,
        memory: int = PAIRS,
        line_search: str | None = "auto",
        iterations: int = 20,
    ) -> None:
        super().__init__(params, lr, weight_decay, memory=memory, line_search=line_search, iterations=iterations)
