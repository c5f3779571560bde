"""Functions of two variables: their formulas, their minima, and what is said of one that cannot be used."""

import numpy as np
import pytest
import torch

from quadric.problems import planes
from quadric.problems.planes import PLANES, Plane

FORMULAS = {
    "rosenbrock": lambda x, y: (1 - x) ** 2 + 100 * (y - x**2) ** 2,
    "quadratic": lambda x, y: 0.5 * (3 * x * x + 4 * x * y + 6 * y * y) + 2 * x - 8 * y + 10,
    "beale": lambda x, y: (1.5 - x + x * y) ** 2 + (2.25 - x + x * y**2) ** 2 + (2.625 - x + x * y**3) ** 2,
    "himmelblau": lambda x, y: (x**2 + y - 11) ** 2 + (x + y**2 - 7) ** 2,
    "saddle": lambda x, y: x**2 - y**2,
    "monkey-saddle": lambda x, y: x**3 - 3 * x * y**2,
    "double-well": lambda x, y: x**2 - y**2 + y**4 / 4,
}


def at(*point):
    return torch.tensor(point, dtype=torch.float64, requires_grad=True)


@pytest.mark.parametrize("name", PLANES)
def test_values_are_those_of_the_formula(name):
    for x, y in np.random.default_rng(0).normal(size=(10, 2)):
        assert float(planes.get(name).value(at(x, y)).detach()) == pytest.approx(FORMULAS[name](x, y), rel=1e-9)


@pytest.mark.parametrize("name", PLANES)
def test_minima_are_stationary_and_in_the_window_as_is_the_start(name):
    plane = planes.get(name)
    plane.check()
    x0, x1, y0, y1 = plane.window
    for point in (*plane.minima, plane.start):
        assert x0 <= point[0] <= x1
        assert y0 <= point[1] <= y1
    for minimum in plane.minima:
        x = at(*minimum)
        (g,) = torch.autograd.grad(plane.value(x), x)
        assert float(g.abs().max()) < 1e-4


def test_an_unknown_name_has_the_nearest_ones():
    with pytest.raises(ValueError, match=r"Unknown function 'rosenbrok'. Did you mean 'rosenbrock'"):
        planes.get("rosenbrok")


@pytest.mark.parametrize(
    ("fun", "error", "message"),
    [
        (lambda x: 3.0, TypeError, "Expected own to return a tensor of floating-point numbers, got float"),
        (lambda x: x.long(), TypeError, "got torch.int64"),
        (lambda x: torch.outer(x, x), ValueError, r"a scalar f or a vector of residuals r .* got shape \[2, 2\]"),
        (lambda x: x.detach().sum(), ValueError, "The value of own carries no gradient"),
        (lambda x: x.sum().log(), ValueError, "own is -inf at .*: start where it is finite"),
    ],
)
def test_a_function_that_cannot_be_used_is_refused(fun, error, message):
    with pytest.raises(error, match=message):
        Plane("own", "", fun, (0.0, 0.0)).check()
