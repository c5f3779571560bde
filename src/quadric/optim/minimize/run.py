"""What drives every method of `minimize`: the test for a stationary point, limits, callback, and the result."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from scipy.optimize import OptimizeResult

from quadric.operators import LinearOperator
from quadric.optim.minimize.function import Function, Point

CONVERGED, OUT_OF_ITERATIONS, STALLED, DIVERGED, SADDLE, BY_CALLBACK = 0, 1, 2, 3, 4, 99


@dataclass(frozen=True)
class Iterate:
    """One iteration of a method, after it.

    Args:
        point: where the method is now. The first iterate is the start.
        inverse: its approximation of the inverse Hessian, or its matrix B of the Hessian as `hessian`.
        spectrum: whether the method works with eigenvalues of the Hessian, so that a saddle is known for one.
        leaves_saddles: whether the method goes on from a stationary point with a negative eigenvalue.
        outlook: what more iterations would bring, in words, should there be no more.
    """

    point: Point
    inverse: LinearOperator | None = None
    hessian: LinearOperator | None = None
    spectrum: bool = False
    leaves_saddles: bool = False
    outlook: Callable[[], str] | None = None


DEPTH = 1e30
"""f₀ − f beyond this many times max(|f₀|, 1): f is taken to be unbounded below."""


class Stopped(Exception):
    """Raised by a method that cannot go on, with the reason, and a point where it saw a better one than it yielded."""

    def __init__(self, reason: str, status: int = STALLED, point: Point | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.status = status
        self.point = point


def stalled(reason: str, point: Point, promise: float | None = None) -> Stopped:
    """What to raise where no step lowers f any more.

    With `promise`, what the exact quadratic model would still gain without bounds: where that is below ε^⅔ |f|, f is at
    its minimum as far as it can be told, and the run a success.
    """
    if promise is not None and 0 <= promise <= torch.finfo(point.x.dtype).eps ** (2 / 3) * abs(point.value):
        return Stopped(
            f"f is at its minimum to rounding: no step lowers it, and the quadratic model promises only {promise:.2g}",
            CONVERGED,
        )
    return Stopped(reason)


@dataclass(frozen=True)
class Limits:
    """Stop at max |gᵢ| ≤ `gtol`, or after `maxiter` iterations; `disp` prints the outcome."""

    gtol: float
    maxiter: int
    disp: bool = False


def drive(iterates: Iterator[Iterate], function: Function, limits: Limits, callback: Any) -> OptimizeResult:
    """Run a method to its end and build the result.

    The point returned is the stationary one, or else the best one seen.
    """
    notify = _notifier(callback, function)
    iterate = next(iterates)
    best, iterations = iterate, 0
    deepest = iterate.point.value - DEPTH * max(abs(iterate.point.value), 1.0)
    while True:
        verdict = _verdict(iterate, limits)
        if verdict is None and iterations >= limits.maxiter:
            outlook = "" if iterate.outlook is None else " " + iterate.outlook()
            verdict = (
                OUT_OF_ITERATIONS,
                f"Ran out of {limits.maxiter} iterations: {_shortfall(iterate, limits)}{outlook}",
            )
        if verdict is None:
            try:
                iterate = next(iterates)
            except Stopped as stop:
                best = best if stop.point is None else Iterate(stop.point)
                reason = stop.reason if stop.reason.startswith("f ") else stop.reason[0].upper() + stop.reason[1:]
                verdict = stop.status, f"{reason}. {_best_seen(best, limits)}"
            else:
                iterations += 1
                if iterate.point.value <= best.point.value + best.point.noise:
                    best = iterate
                if iterate.point.value < deepest:
                    verdict = DIVERGED, f"f seems unbounded below. {_best_seen(best, limits)}"
                if notify(iterate.point):
                    verdict = BY_CALLBACK, "The callback raised StopIteration."
        if verdict is not None:
            end = iterate if verdict[0] in (CONVERGED, SADDLE) else best
            return _result(end, function, iterations, verdict, limits)


def _verdict(iterate: Iterate, limits: Limits) -> tuple[int, str] | None:
    """The status and message where the point is stationary; None where the method is to go on."""
    point = iterate.point
    if not point.largest <= limits.gtol:
        return None
    if iterate.spectrum:
        values = point.eigen[0]
        if float(values[0]) < -(torch.finfo(values.dtype).eps ** 0.5) * float(values.abs().max()):
            return (
                None
                if iterate.leaves_saddles
                else (
                    SADDLE,
                    f"Stopped at a saddle point: the gradient is within tolerance (max |g| = {point.largest:.3g}), but "
                    f"the Hessian has the eigenvalue {float(values[0]):.6g}. method='saddle-free' leaves it.",
                )
            )
    return CONVERGED, f"The gradient is within tolerance: max |g| = {point.largest:.3g} ≤ gtol = {limits.gtol:.3g}."


def _shortfall(iterate: Iterate, limits: Limits) -> str:
    return f"max |g| = {iterate.point.largest:.3g}, gtol = {limits.gtol:.3g}."


def _best_seen(best: Iterate, limits: Limits) -> str:
    return f"At the best point seen f = {best.point.value:.6g}, {_shortfall(best, limits)}"


def _result(
    end: Iterate, function: Function, iterations: int, verdict: tuple[int, str], limits: Limits
) -> OptimizeResult:
    status, message = verdict
    point = end.point
    values = {
        "x": function.returned(point.x),
        "fun": point.value,
        "jac": function.returned(point.gradient),
        "nit": iterations,
        "nfev": function.nfev,
        "njev": function.njev,
        "nhev": function.nhev,
        "success": status == CONVERGED,
        "status": status,
        "message": message,
    }
    result = OptimizeResult(**values)
    if point.residuals is not None:
        residuals = point.residuals.clone()
        result["residuals"] = residuals if function.tensors else residuals.cpu().numpy()
    if end.inverse is not None:
        result["hess_inv"] = _shown(end.inverse, function)
    if end.hessian is not None:
        result["hess"] = _shown(end.hessian, function)
    elif end.spectrum and "hessian_matrix" in vars(point):
        matrix = point.hessian_matrix
        result["hess"] = matrix if function.tensors else matrix.numpy()
    if limits.disp:
        print(
            f"{message}\n    f = {point.value:.6g}, {iterations} iterations; evaluations: {function.nfev} of f, "
            f"{function.njev} of its gradient, {function.nhev} of its Hessian or products with it"
        )
    return result


def _shown(operator: LinearOperator, function: Function) -> Any:
    """A matrix where one is kept, else the operator; SciPy's where x0 was NumPy's."""
    if getattr(operator, "memory", None) is None:
        matrix = operator.to_dense()
        return matrix if function.tensors else matrix.numpy()
    return operator if function.tensors else operator.to_scipy()


def _notifier(callback: Any, function: Function) -> Callable[[Point], bool]:
    """Call the user's callback as SciPy does; True where it raised StopIteration."""
    if callback is None:
        return lambda point: False
    if not callable(callback):
        raise TypeError(f"Expected callback to be callable, got {callback!r}.")
    try:
        named = set(inspect.signature(callback).parameters) == {"intermediate_result"}
    except (TypeError, ValueError):
        named = False

    def notify(point: Point) -> bool:
        x = function.returned(point.x)
        values: dict[str, Any] = {"x": x, "fun": point.value}
        try:
            if named:
                callback(intermediate_result=OptimizeResult(**values))
            else:
                callback(x)
        except StopIteration:
            return True
        return False

    return notify
