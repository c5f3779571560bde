"""The Moré–Garbow–Hillstrom functions: the formulas against the paper's numbers, the methods against the functions."""

import math

import pytest
import torch

from quadric import minimize
from quadric.optim.minimize import METHODS
from quadric.problems.more_garbow_hillstrom import FUNCTIONS

BY_NAME = {test.name: test for test in FUNCTIONS}
RELIABLE = ["bfgs", "l-bfgs", "newton-exact", "levenberg-marquardt"]
"""Reach a minimum of every function."""

# Σ fᵢ² at the standard start, worked out by hand from the paper's formulas.
AT_START = {
    "Rosenbrock": 24.2,
    "Freudenstein and Roth": 400.5,
    "Brown badly scaled": 999998000003.0,
    "Beale": 1.5**2 + 2.25**2 + 2.625**2,
    "Helical valley": 2500.0,
    "Powell singular": 215.0,
    "Wood": 19192.0,
    "Powell badly scaled": 1 + (math.exp(-1) + 1 - 1.0001) ** 2,
    "Extended Rosenbrock, n = 10": 121.0,
    "Extended Powell singular, n = 12": 645.0,
    "Watson, n = 6": 30.0,
    "Penalty I, n = 10": 1e-5 * 285 + 384.75**2,
    "Broyden tridiagonal, n = 10": 2.0**2 + 8 * 1.0**2 + 3.0**2,
    "Linear, full rank, n = 5": 5 * 1.0**2 + 5 * 2.0**2,
    "Variably dimensioned, n = 10": 3.85 + 38.5**2 + 38.5**4,
}


def factor(method):
    return 2 if METHODS[method].residuals else 1


def solved(method, test, **options):
    fun = test.residuals if METHODS[method].residuals else test.value
    return minimize(fun, test.x0, method=method, options=options or None)


def reached(test, value):
    return any(abs(value - known) <= 1e-4 * known + 1e-6 for known in test.minima)


@pytest.mark.parametrize("name", AT_START)
def test_the_value_at_the_start_is_the_papers(name):
    test = BY_NAME[name]
    assert float(test.value(test.x0)) == pytest.approx(AT_START[name], rel=1e-12)


def test_the_set_is_large_enough_and_its_names_differ():
    assert len(BY_NAME) == len(FUNCTIONS) >= 15


@pytest.mark.parametrize("method", RELIABLE)
@pytest.mark.parametrize("name", [t.name for t in FUNCTIONS if t.name not in ("Meyer", "Brown and Dennis")])
def test_a_known_minimum_is_reached(method, name):
    test = BY_NAME[name]
    found = solved(method, test)
    assert found.success, found.message
    assert reached(test, factor(method) * found.fun), found


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", BY_NAME)
def test_a_minimum_is_reached_or_the_failure_explained(method, name):
    test = BY_NAME[name]
    found = solved(method, test, maxiter=1000)
    value = factor(method) * found.fun
    assert math.isfinite(value)
    assert torch.isfinite(found.x).all()
    assert value <= float(test.value(test.x0))
    if found.success:
        assert found.jac.abs().max() <= 1e-5 or "minimum to rounding" in found.message
    else:
        assert found.status in (1, 2, 3, 4)
        assert "max |g| = " in found.message


@pytest.mark.parametrize("method", ["bfgs", "newton-cg", "trust-ncg", "l-bfgs", "dfp", "newton-exact", "trust-exact"])
def test_wood_is_solved_where_scipy_stops_at_the_saddle(method):
    """SciPy's Newton-CG ends at 7.85 (success False), its L-BFGS-B at 7.88 (success True)."""
    found = solved(method, BY_NAME["Wood"])
    assert found.success
    assert found.fun < 1e-8


def test_dfp_solves_rosenbrock_and_wood_with_its_accurate_search():
    for name in ("Rosenbrock", "Wood", "Powell singular"):
        found = solved("dfp", BY_NAME[name])
        assert found.success, found.message
        assert found.fun < 1e-6
