"""The CurveBall optimiser, run to a stationary point."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any

from torch import Tensor

from quadric.core.errors import ConvergenceError, StepRejected
from quadric.objective import Objective
from quadric.optim.curveball import CurveBall
from quadric.optim.minimize.function import Point
from quadric.optim.minimize.run import Iterate, Stopped


def curveball(
    start: Point,
    *,
    learning_rate: float = 1.0,
    damping: float | None = None,
    momentum: float | None = None,
    step_size: float | None = None,
) -> Iterator[Iterate]:
    """`quadric.optim.CurveBall` on ½‖r‖² (its `lr` is `learning_rate`): at most 7/3 of a gradient a step.

    `nhev` counts its passes beyond the gradient. To see f and the gradient where it is costs one of each a step more.
    """
    function = start.function
    counted = _Calls(function.fun, function.args)
    objective = Objective.of(counted, function.given(start.x))
    optimizer = CurveBall(objective, learning_rate, damping, momentum, step_size)
    yield Iterate(start)
    while True:
        before = counted.calls
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", StepRejected)
            try:
                optimizer.step(objective.on())
            except ConvergenceError as error:
                raise Stopped(str(error).rstrip(".")) from error
        report = optimizer.last_step
        function.nfev += counted.calls - before
        if report is None or report.rejected:
            continue
        function.nhev += report.products
        (x,) = objective.parameters
        yield Iterate(function.at(x.detach().reshape(-1).clone()))


class _Calls:
    """The user's function, counting its calls."""

    def __init__(self, fun: Any, args: tuple[Any, ...]) -> None:
        self.fun, self.args, self.calls = fun, args, 0

    def __call__(self, x: Tensor) -> Tensor:
        self.calls += 1
        value: Tensor = self.fun(x, *self.args)
        return value
