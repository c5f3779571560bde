"""`minimize`: a function of one tensor or array, in SciPy's convention."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from scipy.optimize import OptimizeResult

from quadric.optim.minimize.function import RESIDUALS, Function, Point
from quadric.optim.minimize.methods import Method, named, split_options
from quadric.optim.minimize.run import Limits, drive


def minimize(
    fun: Callable[..., Any],
    x0: Any,
    method: str = "bfgs",
    jac: Callable[..., Any] | bool | None = None,
    hess: Callable[..., Any] | None = None,
    hessp: Callable[..., Any] | None = None,
    args: tuple[Any, ...] = (),
    tol: float | None = None,
    callback: Callable[..., Any] | None = None,
    options: Mapping[str, Any] | None = None,
) -> OptimizeResult:
    """Find a local minimum of f from x0, derivatives by autograd where none are given.

    Args:
        fun: `fun(x, *args)` → a scalar f, or a vector of residuals r [m], which means f = ½‖r‖² (as SciPy's
            least_squares) and is what levenberg-marquardt and curveball need. It takes a tensor like x0; where x0 is a
            NumPy array (or a list) a NumPy array if `jac` is given, else a float64 tensor, so that it can be
            differentiated.
        x0: a tensor (float32 or float64, any shape and device) or array; the result's `x` is of its kind and shape.
        method: gradient-descent, momentum, bfgs, dfp, sr1, l-bfgs, newton-cg, newton-exact, saddle-free, trust-ncg,
            trust-exact, levenberg-marquardt, curveball.
        jac: `jac(x, *args)` → the gradient, or J [m, n] of residuals; True if `fun` returns (f, gradient).
        hess, hessp: `hess(x, *args)` → ∇²f [n, n] (n counts x's numbers), `hessp(x, p, *args)` → ∇²f p. Without
            them by autograd, or where `fun` is not torch's by differences of `jac`.
        tol: `gtol`, unless the options have it.
        callback: `callback(xk)` or `callback(intermediate_result=...)` after each iteration; StopIteration stops.
        options: `gtol`: stop at max |gᵢ| ≤ gtol (default 1e-5; 1e-3 in float32). `maxiter` (default 200 n, at least
            1,000; ten times that for gradient-descent, momentum and curveball). `disp`: print the outcome. And the
            method's own, such as `learning_rate`, `momentum`, `c1`, `c2`, `memory`, `initial_trust_radius`.

    Returns SciPy's OptimizeResult: x, fun, jac (∇f, also with residuals, which are in `residuals`), nit, nfev, njev,
    nhev (Hessian matrices, or products where those were taken), success, status, message; `hess_inv` of bfgs, dfp and
    l-bfgs (an operator), `hess` of methods that hold one. Where success is False, x is the best point seen and
    `message` says why: 1 out of iterations, 2 no further decrease, 3 diverged, 4 at a saddle, 99 by the callback.

    Raises ValueError for unknown names, an f that is not finite at x0, and derivatives of wrong shape or, for `hess`,
    not symmetric; TypeError for an x0 or values of the wrong kind. References: each method's file; Nocedal and Wright
    (2006), Numerical optimization.
    """
    way = named(method)
    common, own = split_options(method, way, options)
    function = Function(fun, x0, jac, hess, hessp, args)
    limits = _limits(common, tol, function, way)
    start = function.at(function.start)
    _check_start(start, way, method)
    return drive(way.iterates(start, **own), function, limits, callback)


def _limits(common: dict[str, Any], tol: float | None, function: Function, way: Method) -> Limits:
    default = 1e-5 if function.start.dtype == torch.float64 else 1e-3
    gtol = common.get("gtol", default if tol is None else tol)
    if not (isinstance(gtol, float | int) and gtol >= 0 and math.isfinite(gtol)):
        raise ValueError(f"Expected a finite gtol (or tol) ≥ 0, got {gtol!r}.")
    maxiter = common.get("maxiter")
    if maxiter is None:
        maxiter = max(1000, 200 * function.n) * (10 if way.patient else 1)
    if isinstance(maxiter, bool) or not isinstance(maxiter, int) or maxiter < 0:
        raise ValueError(f"Expected maxiter to be an integer ≥ 0, got {maxiter!r}.")
    return Limits(float(gtol), maxiter, bool(common.get("disp", False)))


def _check_start(start: Point, way: Method, method: str) -> None:
    """Raise where f is not what the method needs, or not finite at x0."""
    function = start.function
    if way.residuals and start.residuals is None:
        raise ValueError(f"{method} is for least squares, and fun returned one number. Let fun {RESIDUALS}")
    if way.by_autograd and not function.by_autograd:
        raise ValueError(f"{method} takes products with the Jacobian by autograd: write fun in torch, without jac=.")
    if not way.residuals and start.residuals is not None and len(start.residuals) == 1:
        raise ValueError(
            "fun returned a vector of one number, which could be f or one residual r with f = ½r²: return "
            "f.reshape(()) for the one, 0.5 * r.square().sum() for the other."
        )
    if not math.isfinite(start.value):
        raise ValueError(f"f is {start.value} at x0: start where it is finite.")
    if not start.finite:
        raise ValueError(f"f is {start.value:.6g} at x0, but its gradient is not finite there: start elsewhere.")
