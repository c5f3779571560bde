"""Functions of two variables to look at: valleys, bowls and saddles, with where to start and what part to draw."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from quadric.core.errors import unknown_name
from quadric.problems.more_garbow_hillstrom import beale as beale_residuals
from quadric.problems.more_garbow_hillstrom import rosenbrock as rosenbrock_residuals

Window = tuple[float, float, float, float]
"""Lowest and highest first coordinate, then those of the second."""


@dataclass(frozen=True)
class Plane:
    """`fun` takes a tensor [2] and returns a scalar f, or a vector of residuals r, which means f = ½‖r‖².

    `window` is the part to draw, None to take it from where the trajectories go; `minima` are known ones.
    """

    name: str
    summary: str
    fun: Callable[[Tensor], Tensor]
    start: tuple[float, float]
    window: Window | None = None
    minima: tuple[tuple[float, float], ...] = ()

    @cached_property
    def residuals(self) -> bool:
        """Whether `fun` returns a vector."""
        return self.fun(torch.tensor(self.start, dtype=torch.float64)).dim() > 0

    def check(self) -> None:
        """Raise TypeError or ValueError where f at the start is of the wrong kind, shape or value."""
        x = torch.tensor(self.start, dtype=torch.float64, requires_grad=True)
        out = self.fun(x)
        if not (isinstance(out, Tensor) and out.is_floating_point()):
            kind = str(out.dtype) if isinstance(out, Tensor) else type(out).__name__
            raise TypeError(f"Expected {self.name} to return a tensor of floating-point numbers, got {kind}.")
        if out.dim() > 1:
            raise ValueError(
                f"Expected {self.name} to return a scalar f or a vector of residuals r (f = ½‖r‖²), got shape "
                f"{list(out.shape)}."
            )
        if not out.requires_grad:
            raise ValueError(f"The value of {self.name} carries no gradient: use torch operations throughout.")
        if not math.isfinite(value := float(self.value(x.detach()))):
            raise ValueError(f"{self.name} is {value:g} at {self.start}: start where it is finite.")

    def value(self, x: Tensor) -> Tensor:
        """f at x [2], a scalar."""
        out = self.fun(x)
        return 0.5 * out.square().sum() if out.dim() else out


def rosenbrock(x: Tensor) -> Tensor:
    """(1 − u)² + 100 (v − u²)²."""
    return 2**0.5 * rosenbrock_residuals(x)


def beale(x: Tensor) -> Tensor:
    """Σ (yᵢ − u (1 − vⁱ))² with y = (1.5, 2.25, 2.625)."""
    return 2**0.5 * beale_residuals(x)


def himmelblau(x: Tensor) -> Tensor:
    """(u² + v − 11)² + (u + v² − 7)²."""
    u, v = x.unbind()
    return 2**0.5 * torch.stack([u * u + v - 11, u + v * v - 7])


A = ((3.0, 2.0), (2.0, 6.0))
MINIMUM = (-2.0, 2.0)


def quadratic(x: Tensor) -> Tensor:
    """½ xᵀAx + bᵀx + 10 with A = [[3, 2], [2, 6]] and b = (2, −8): ½‖Rᵀ(x − x*)‖², A = RRᵀ, x* = (−2, 2), f* = 0."""
    factor: Tensor = torch.linalg.cholesky(torch.tensor(A, dtype=x.dtype))
    return factor.T.matmul(x - torch.tensor(MINIMUM, dtype=x.dtype))


def saddle(x: Tensor) -> Tensor:
    """u² − v², unbounded below."""
    u, v = x.unbind()
    return u * u - v * v


def monkey_saddle(x: Tensor) -> Tensor:
    """u³ − 3uv², unbounded below; its Hessian at 0 is zero."""
    u, v = x.unbind()
    return u * u * u - 3 * u * v * v


def double_well(x: Tensor) -> Tensor:
    """u² − v² + ¼v⁴: a saddle between two minima."""
    u, v = x.unbind()
    return u * u - v * v + 0.25 * (v * v).square()


PLANES = {
    plane.name: plane
    for plane in (
        Plane(
            "rosenbrock",
            "(1 − x)² + 100 (y − x²)²: a curved valley, least squares",
            rosenbrock,
            (-1.2, 1.0),
            (-1.7, 1.7, -0.8, 2.2),
            ((1.0, 1.0),),
        ),
        Plane(
            "quadratic",
            "½ xᵀAx + bᵀx + 10, A = [[3, 2], [2, 6]], b = (2, −8): a bowl, least squares",
            quadratic,
            (2.0, -1.0),
            (-4.5, 3.0, -2.0, 4.0),
            (MINIMUM,),
        ),
        Plane(
            "beale",
            "Beale's function: a minimum at the end of a flat plain, least squares",
            beale,
            (1.0, 1.0),
            (-0.5, 4.5, -1.5, 1.8),
            ((3.0, 0.5),),
        ),
        Plane(
            "himmelblau",
            "(x² + y − 11)² + (x + y² − 7)²: four minima, least squares",
            himmelblau,
            (0.0, -1.0),
            (-5.5, 5.5, -5.5, 5.5),
            ((3.0, 2.0), (-2.805118, 3.131313), (-3.779310, -3.283186), (3.584428, -1.848127)),
        ),
        Plane("saddle", "x² − y²: a saddle, unbounded below", saddle, (1.0, 0.01), (-1.5, 1.5, -1.5, 1.5)),
        Plane(
            "monkey-saddle",
            "x³ − 3xy²: a saddle with three ways down, unbounded below",
            monkey_saddle,
            (1.0, 0.05),
            (-1.5, 1.5, -1.5, 1.5),
        ),
        Plane(
            "double-well",
            "x² − y² + ¼y⁴: a saddle between two minima",
            double_well,
            (1.0, 0.01),
            (-1.5, 1.5, -2.2, 2.2),
            ((0.0, 2**0.5), (0.0, -(2**0.5))),
        ),
    )
}


def get(name: str) -> Plane:
    """The function called `name`.

    Raises:
        ValueError: there is none of that name; the message has the nearest ones.
    """
    if name not in PLANES:
        raise unknown_name("function", name, PLANES)
    return PLANES[name]
