"""Line searches on functions of one variable whose conditions can be checked by hand."""

import math

import pytest

from quadric.optim.line_search import armijo, strong_wolfe
from quadric.optim.line_search.search import EXHAUSTED, NOISE, NOT_DESCENT, NOT_FINITE, UNBOUNDED

# φ, φ′ with φ′(0) < 0: Moré and Thuente (1994), section 5, and some that overflow
BETA, LONG = 0.004, 39


def yanai(b1, b2):
    """Moré and Thuente (1994), equation 5.4 (Yanai, Ozawa and Kaneko)."""

    def gamma(b):
        return math.sqrt(1 + b * b) - b

    def phi(a):
        return (
            gamma(b1) * math.sqrt((1 - a) ** 2 + b2**2) + gamma(b2) * math.sqrt(a**2 + b1**2),
            -gamma(b1) * (1 - a) / math.sqrt((1 - a) ** 2 + b2**2) + gamma(b2) * a / math.sqrt(a**2 + b1**2),
        )

    return phi


CURVES = {
    "parabola": lambda a: ((a - 3) ** 2, 2 * (a - 3)),
    "rational": lambda a: (-a / (a * a + 2), (a * a - 2) / (a * a + 2) ** 2),
    "quintic": lambda a: ((a + BETA) ** 5 - 2 * (a + BETA) ** 4, 5 * (a + BETA) ** 4 - 8 * (a + BETA) ** 3),
    "yanai 0.001 0.001": yanai(1e-3, 1e-3),
    "yanai 0.01 0.001": yanai(1e-2, 1e-3),
    "yanai 0.001 0.01": yanai(1e-3, 1e-2),
    "waves": lambda a: (0.05 * a * a - math.sin(a), 0.1 * a - math.cos(a)),
    "overflow": lambda a: (math.exp(a) - 2 * a, math.exp(a) - 2) if a < 700 else (math.inf, math.nan),
    "a wall": lambda a: (-math.log(2 - a) - 3 * a, 1 / (2 - a) - 3) if a < 2 else (math.nan, math.nan),
}


@pytest.mark.parametrize("name", CURVES)
@pytest.mark.parametrize("first", [1e-3, 0.1, 1.0, 10.0, 1e3])
@pytest.mark.parametrize("c2", [0.9, 0.1, 0.01])
def test_strong_wolfe_finds_a_step_that_satisfies_both_conditions(name, first, c2):
    phi, calls = CURVES[name], []
    value, slope = phi(0.0)

    def counted(alpha):
        calls.append(alpha)
        return phi(alpha)

    found = strong_wolfe(counted, value, slope, first=first, c2=c2)
    assert found.converged
    assert found.evaluations == len(calls) <= 25
    assert (found.value, found.slope) == phi(found.alpha)
    assert found.value <= value + 1e-4 * found.alpha * slope
    assert abs(found.slope) <= c2 * abs(slope)


@pytest.mark.parametrize("name", CURVES)
@pytest.mark.parametrize("first", [0.1, 1.0, 10.0, 1e3])
def test_armijo_finds_a_sufficient_decrease(name, first):
    phi = CURVES[name]
    value, slope = phi(0.0)
    found = armijo(lambda alpha: phi(alpha)[0], value, slope, first=first)
    assert found.converged
    assert found.value == phi(found.alpha)[0]
    assert found.value <= value + 1e-4 * found.alpha * slope
    assert found.alpha <= first


def test_an_acceptable_first_step_costs_one_evaluation():
    phi = CURVES["parabola"]
    assert strong_wolfe(phi, *phi(0.0), first=2.5).evaluations == 1
    assert armijo(lambda a: phi(a)[0], *phi(0.0), first=2.5).evaluations == 1


def test_a_parabola_is_minimised_exactly_at_the_second_evaluation():
    phi = CURVES["parabola"]
    found = strong_wolfe(phi, *phi(0.0), first=1.0, c1=1e-10, c2=1e-9)
    assert found.alpha == pytest.approx(3, rel=1e-12)
    assert found.evaluations == 2


def test_near_a_minimum_slopes_decide_where_values_are_rounding():
    """φ = 1 + 1e-18 (a − 1)²: its values are all 1, its slopes are right."""
    found = strong_wolfe(lambda a: (1.0, 2e-18 * (a - 1)), 1.0, -2e-18, first=0.01, c2=0.1)
    assert found.converged
    assert found.alpha == pytest.approx(1, abs=0.1)


@pytest.mark.parametrize(
    ("phi", "reason"),
    [
        (lambda a: (-a, -1.0), UNBOUNDED),
        (lambda a: (math.nan, math.nan), NOT_FINITE),
        (lambda a: (1 + abs(a), 1.0), NOISE),
    ],
)
def test_strong_wolfe_says_why_it_fails(phi, reason):
    value = 0.0 if reason is UNBOUNDED else 1.0
    found = strong_wolfe(phi, value, -1.0)
    assert not found.converged
    assert found.reason == reason
    assert found.alpha == 0 or found.value < value


def test_a_failed_search_returns_the_best_step_it_saw():
    """A kink: no slope is small anywhere, so the second condition can't hold."""
    seen = []

    def kink(a):
        seen.append(abs(a - 0.3))
        return abs(a - 0.3), 1.0 if a > 0.3 else -1.0

    found = strong_wolfe(kink, 0.3, -1.0, c2=0.5)
    assert not found.converged
    assert found.reason == EXHAUSTED
    assert found.value == min(seen)


def test_armijo_says_why_it_fails():
    assert armijo(lambda a: math.nan, 1.0, -1.0).reason == NOT_FINITE
    found = armijo(lambda a: 1.0 + a, 1.0, -1.0)
    assert (found.alpha, found.reason) == (0.0, NOISE)


@pytest.mark.parametrize("slope", [0.0, 1.0, math.nan])
def test_a_direction_that_does_not_descend_is_refused(slope):
    assert strong_wolfe(CURVES["parabola"], 9.0, slope).reason == NOT_DESCENT
    assert armijo(lambda a: 0.0, 9.0, slope).reason == NOT_DESCENT


def test_constants_out_of_order_are_refused():
    with pytest.raises(ValueError, match=r"Expected 0 < c1 < c2 < 1, got c1 = 0\.9, c2 = 0\.1"):
        strong_wolfe(CURVES["parabola"], 9.0, -6.0, c1=0.9, c2=0.1)
