"""The user's function with its derivatives: one point at a time, counted, as flat tensors."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from quadric.core.space import Space
from quadric.curvature import GGN, Hessian, Jacobian
from quadric.objective import Objective
from quadric.operators import LinearOperator
from quadric.operators.dense import Dense
from quadric.optim.minimize.products import Counted, Differences, Products

RESIDUALS = (
    "return the residuals r as a vector, which means f = ½‖r‖²: "
    "def fun(x): return model(x) - y, in place of (model(x) - y).square().sum()"
)


class Function:
    """f, and ½‖r‖² where `fun` returns residuals r, at flat points of x0's dtype on x0's device.

    `fun` works on NumPy arrays where x0 is one and `jac` is given, else on tensors. `nfev`, `njev` count evaluations of
    f and of its gradient (with residuals: of Jᵀr or J); `nhev` Hessian matrices, or products where those were taken.
    """

    def __init__(self, fun: Any, x0: Any, jac: Any, hess: Any, hessp: Any, args: tuple[Any, ...]) -> None:
        for name, value in (("fun", fun), ("hess", hess), ("hessp", hessp)):
            if not (callable(value) or (value is None and name != "fun")):
                raise TypeError(f"Expected {name} to be callable, got {value!r}.{_exact(name)}")
        if not (callable(jac) or jac is None or isinstance(jac, bool)):
            raise TypeError(f"Expected jac to be callable, True or None, got {jac!r}.{_exact('jac')}")
        self.tensors = isinstance(x0, Tensor)
        start = _start(x0)
        self.shape, self.n = start.shape, start.numel()
        self.space = Space.euclidean(self.n, start.dtype, start.device)
        self.start = start.reshape(-1)
        self.args = args if isinstance(args, tuple) else (args,)
        self.fun, self._jac, self._hess, self._hessp = fun, jac or None, hess, hessp
        self.in_numpy = not self.tensors and self._jac is not None
        self.nfev = self.njev = self.nhev = 0

    @cached_property
    def by_autograd(self) -> bool:
        """Whether `fun` can be differentiated: it takes tensors and returns one that carries a gradient."""
        if self._jac is None:
            return True
        if self.in_numpy or self._jac is True:
            return False
        out = self.fun(self.given(self.start).requires_grad_(), *self.args)
        return isinstance(out, Tensor) and out.requires_grad

    def at(self, x: Tensor) -> Point:
        """f at a flat point; derivatives as they are asked for."""
        return Point(self, x)

    def given(self, x: Tensor) -> Any:
        """A flat point as `fun` takes it: a copy of x0's shape and kind."""
        shaped = x.detach().reshape(self.shape).clone()
        return shaped.numpy() if self.in_numpy else shaped

    def returned(self, x: Tensor) -> Any:
        """A flat vector as the user gets it: of x0's shape and kind."""
        shaped = x.detach().reshape(self.shape).clone()
        return shaped if self.tensors else shaped.numpy()

    def taken(self, value: Any, name: str, shape: tuple[int, ...]) -> Tensor:
        """What a user's derivative returned, as a tensor [shape]; raises ValueError where it is not one."""
        if name == "hess" and not isinstance(value, Tensor) and hasattr(value, "toarray"):
            value = value.toarray()
        try:
            tensor = torch.as_tensor(value).detach().to(self.start.device, self.start.dtype)
        except (TypeError, ValueError, RuntimeError) as error:
            raise TypeError(
                f"Expected {name} to return numbers shaped {list(shape)}, got {type(value).__name__}."
            ) from error
        flat = len(shape) == 1 and tensor.shape == self.shape and tensor.numel() == shape[0]
        if tensor.shape != shape and not flat:
            raise ValueError(f"Expected {name} to return shape {list(shape)}, got {list(tensor.shape)}.")
        return tensor.reshape(shape)

    def evaluate(self, x: Tensor) -> tuple[float, Tensor | None, Tensor | None, Tensor | None, Tensor | None]:
        """f, then where there are any: the leaf and the scalar that autograd starts from, residuals, jac's value."""
        self.nfev += 1
        leaf, given_jac = None, None
        given = self.given(x)
        if self._jac is None:
            leaf = given.requires_grad_()
            with torch.enable_grad():
                out = self._call(leaf)
        else:
            out = self.fun(given, *self.args)
            if self._jac is True:
                out, given_jac = self._pair(out)
        value = self._output(out)
        residuals = value.detach() if value.dim() else None
        if leaf is not None and not value.requires_grad:
            raise ValueError(
                "fun's value carries no gradient: is there .item(), .detach(), torch.no_grad() or NumPy inside? Use "
                "torch operations throughout, or give jac=."
            )
        with torch.enable_grad():
            scalar = 0.5 * value.square().sum() if value.dim() else value
        return float(scalar.detach()), leaf, None if leaf is None else scalar, residuals, given_jac

    def _call(self, leaf: Tensor) -> Any:
        try:
            return self.fun(leaf, *self.args)
        except (RuntimeError, TypeError) as error:
            if self.tensors or not any(word in str(error) for word in ("numpy()", "must be Tensor", "received an inv")):
                raise
            raise TypeError(
                "Without jac=, fun is differentiated by autograd and gets a torch tensor, which this one could not "
                f"take ({error}). Write fun with torch operations, or give jac= (and hess= or hessp=) in NumPy."
            ) from error

    def _pair(self, out: Any) -> tuple[Any, Any]:
        if not (isinstance(out, tuple) and len(out) == 2):
            raise TypeError(f"With jac=True, expected fun to return (f, gradient), got {type(out).__name__}.")
        return out

    def _output(self, out: Any) -> Tensor:
        if not isinstance(out, Tensor):
            if self._jac is None:
                raise TypeError(
                    f"Expected fun to return a tensor, got {type(out).__name__}: without jac=, fun gets a torch tensor "
                    "and is differentiated by autograd. Write it with torch operations, or give jac=."
                )
            out = torch.as_tensor(np.asarray(out))
        if out.is_complex() or (not out.is_floating_point() and self._jac is None):
            raise TypeError(f"Expected fun to return real floating-point numbers, got {out.dtype}.")
        if out.dim() > 1:
            raise ValueError(
                f"Expected fun to return a scalar f or a vector of residuals r (f = ½‖r‖²), got shape "
                f"{list(out.shape)}: use .sum() or .reshape(()) for one number, .flatten() for residuals."
            )
        value: Tensor = out if out.is_floating_point() else out.to(self.start.dtype)
        return value

    def gradient_by_jac(self, x: Tensor, residuals: Tensor | None, known: Any) -> tuple[Tensor, Tensor | None]:
        """∇f by the user's jac, with J where `fun` returns residuals."""
        value = self._jac(self.given(x), *self.args) if callable(self._jac) else known
        if residuals is None:
            return self.taken(value, "jac", (self.n,)), None
        jacobian = self.taken(value, "jac", (len(residuals), self.n))
        return jacobian.T @ residuals.to(jacobian), jacobian

    def objective(self, x: Tensor) -> Objective:
        """f near a point, for products."""
        return Objective.of(lambda at: self.fun(at, *self.args), self.given(x))

    def hessian(self, point: Point) -> LinearOperator:
        """∇²f at a point as an operator whose products are counted."""
        if self._hess is not None:
            return Dense(self.hessian_matrix(point), self.space, symmetric=True)
        if self._hessp is not None:
            return Counted(Products(self.space, lambda p: self._given_product(point.x, p)), self._count_products)
        if not self.by_autograd:
            return Differences(self.space, point.x, point.gradient, lambda x: self.at(x).gradient)
        return Counted(Hessian(self.objective(point.x)), self._count_products)

    def _given_product(self, x: Tensor, p: Tensor) -> Tensor:
        assert self._hessp is not None
        return self.taken(self._hessp(self.given(x), self.given(p), *self.args), "hessp", (self.n,))

    def hessian_matrix(self, point: Point) -> Tensor:
        """∇²f [n, n] at a point, symmetric."""
        if self._hess is None:
            before = self.nhev
            matrix = self.hessian(point).to_dense()
            if self._hessp is None and self.by_autograd:
                self.nhev = before + 1
        else:
            self.nhev += 1
            value = self._hess(self.given(point.x), *self.args)
            matrix = value.to_dense() if isinstance(value, LinearOperator) else value
            matrix = self.taken(matrix, "hess", (self.n, self.n))
            _check_symmetric(matrix)
        if not bool(torch.isfinite(matrix).all()):
            raise ValueError("The Hessian holds NaN or infinity at a point where f and its gradient are finite.")
        return (matrix + matrix.T) / 2

    def _count_products(self, columns: int) -> None:
        self.nhev += columns


class Point:
    """One point: f there at once, the rest when it is first asked for."""

    def __init__(self, function: Function, x: Tensor) -> None:
        self.function = function
        self.x = x.detach()
        self.value, self._leaf, self._scalar, self.residuals, self._given_jac = function.evaluate(self.x)
        self._jacobian: Tensor | None = None

    @cached_property
    def gradient(self) -> Tensor:
        """g = ∇f, flat."""
        self.function.njev += 1
        if self._scalar is None or self._leaf is None:
            g, self._jacobian = self.function.gradient_by_jac(self.x, self.residuals, self._given_jac)
            return g
        (g,) = torch.autograd.grad(self._scalar, self._leaf, materialize_grads=True)
        self._leaf = self._scalar = None
        return g.detach().reshape(-1)

    @cached_property
    def largest(self) -> float:
        """max |gᵢ|: what is held against `gtol`."""
        return float(self.gradient.abs().max())

    @property
    def finite(self) -> bool:
        """Whether f and g are."""
        return bool(np.isfinite(self.value)) and bool(torch.isfinite(self.gradient).all())

    @cached_property
    def hessian(self) -> LinearOperator:
        """∇²f as an operator."""
        return self.function.hessian(self)

    @cached_property
    def hessian_matrix(self) -> Tensor:
        """∇²f as a matrix."""
        return self.function.hessian_matrix(self)

    @cached_property
    def eigen(self) -> tuple[Tensor, Tensor]:
        """Eigenvalues (ascending) and eigenvectors of ∇²f."""
        values, vectors = torch.linalg.eigh(self.hessian_matrix)
        return values, vectors

    @cached_property
    def jacobian(self) -> Tensor:
        """J = ∂r/∂x [m, n]."""
        if self.function._jac is not None:
            self.gradient  # noqa: B018 - leaves J
            assert self._jacobian is not None
            return self._jacobian
        return Jacobian(self.function.objective(self.x)).to_dense()

    @cached_property
    def ggn(self) -> LinearOperator:
        """JᵀJ as an operator."""
        if self.function._jac is None:
            return Counted(GGN(self.function.objective(self.x)), self.function._count_products)
        jacobian = self.jacobian
        return Products(self.function.space, lambda p: jacobian.T @ (jacobian @ p))

    @property
    def noise(self) -> float:
        """What rounding can do to a difference of values of f near here."""
        return 4 * torch.finfo(self.x.dtype).eps * abs(self.value)


class Ray:
    """φ(α) = f(w + α p) with φ′, as line searches take it; the points it went through are kept for their gradients."""

    def __init__(self, start: Point, direction: Tensor) -> None:
        self.start, self.direction = start, direction
        self.slope = float(start.gradient @ direction)
        self._last = self._best = (0.0, start)

    def value(self, alpha: float) -> float:
        """φ(α), infinite where it is not a number."""
        point = self.start.function.at(self.start.x + alpha * self.direction)
        value = point.value if np.isfinite(point.value) else np.inf
        self._last = alpha, point
        if value < self._best[1].value:
            self._best = self._last
        return value

    def __call__(self, alpha: float) -> tuple[float, float]:
        """φ(α) and φ′(α)."""
        value = self.value(alpha)
        if not np.isfinite(value):
            return value, np.nan
        return value, float(self._last[1].gradient @ self.direction)

    def at(self, alpha: float) -> Point:
        """The point of an α that was tried last, or is the best one."""
        for tried, point in (self._last, self._best):
            if tried == alpha:
                return point
        return self.start.function.at(self.start.x + alpha * self.direction)


def _start(x0: Any) -> Tensor:
    """x0 as a tensor of its own memory; raises where it is not made of real floating-point numbers."""
    if isinstance(x0, Tensor):
        if not x0.is_floating_point() or x0.dtype.itemsize < 4:
            raise TypeError(
                f"Expected a tensor x0 of float64 or float32, got {x0.dtype}: use x0.double() or x0.float()."
            )
        start = x0.detach().clone()
    else:
        array = np.atleast_1d(np.asarray(x0))
        if array.dtype.kind in "iu":  # as SciPy does
            array = array.astype(np.float64)
        if array.dtype not in (np.float64, np.float32):
            raise TypeError(f"Expected x0 of floating-point numbers (float64 or float32), got dtype {array.dtype}.")
        start = torch.from_numpy(array.copy())
    if start.numel() == 0:
        raise ValueError("Expected an x0 with at least one number, got an empty one.")
    bad = int((~torch.isfinite(start)).sum())
    if bad:
        raise ValueError(f"Expected a finite x0, got one with {bad} of {start.numel()} numbers NaN or infinite.")
    return start


def _check_symmetric(matrix: Tensor) -> None:
    gap = (matrix - matrix.T).abs()
    allowed = torch.finfo(matrix.dtype).eps ** 0.5 * float(matrix.abs().max())
    if float(gap.max()) > allowed:
        i, j = divmod(int(gap.argmax()), len(matrix))
        raise ValueError(
            f"Expected hess to return a symmetric matrix, got {float(matrix[i, j]):.6g} at [{i}, {j}] and "
            f"{float(matrix[j, i]):.6g} at [{j}, {i}]."
        )


def _exact(name: str) -> str:
    """The hint for those who pass SciPy's names of finite differences."""
    return "" if name == "fun" else " Derivatives come from autograd, exact: leave it out where fun is in torch."
