"""Levenberg–Marquardt: the damped Gauss–Newton method."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from quadric.objective.objective import Objective
from quadric.optim.newton import Newton


class LevenbergMarquardt(Newton):
    """w ← w − η (JᵀH_ℓJ + λI)⁻¹ g: `Newton` with the Gauss–Newton matrix, its full structure and an adapted λ.

    For any loss that is convex in the outputs; for least squares it is the classic method. See `Newton` for the
    arguments and the adaptation of λ. References: Levenberg (1944), A method for the solution of certain non-linear
    problems in least squares; Marquardt (1963); Schraudolph (2002) for the generalised Gauss–Newton matrix.
    """

    def __init__(
        self,
        params: Objective | Iterable[Any],
        lr: float = 1.0,
        damping: float | None = None,
        weight_decay: float = 0.0,
        *,
        adapt: bool = True,
        tol: float = 1e-3,
        dense_below: int = 200,
    ) -> None:
        super().__init__(params, lr, damping, weight_decay=weight_decay, adapt=adapt, tol=tol, dense_below=dense_below)
