"""The trust-region subproblem against its optimality conditions and against brute force."""

import math

import numpy as np
import pytest
import torch
from scipy.optimize import brentq

from operators.suite import F64, random, spd
from quadric.linalg.steihaug import steihaug
from quadric.linalg.trust_exact import trust_exact
from quadric.operators.dense import Dense

RADII = [1e-3, 0.1, 1.0, 10.0, 1e3]


def model(b, g, p):
    return float(g @ p + 0.5 * p @ b @ p)


def indefinite(n, seed=0):
    a = random(n, n, seed=seed)
    return (a + a.T) / 2


MATRICES = {"definite": spd(6), "indefinite": indefinite(6), "negative": -spd(6, seed=3)}


@pytest.mark.parametrize("radius", RADII)
@pytest.mark.parametrize("name", MATRICES)
def test_the_exact_step_satisfies_the_conditions_of_a_global_minimum(name, radius):
    b, g = MATRICES[name], random(6, seed=5)
    found = trust_exact(b, g, radius)
    p, shift = found.step, found.multiplier
    assert float(p.norm()) <= radius * (1 + 1e-9)
    assert shift >= 0
    assert float(torch.linalg.eigvalsh(b)[0]) + shift >= -1e-9
    torch.testing.assert_close(b @ p + shift * p, -g, rtol=1e-7, atol=1e-7 * float(g.norm()))
    assert found.on_boundary == (shift > 0)
    if found.on_boundary:
        assert float(p.norm()) == pytest.approx(radius, rel=1e-9)
    assert found.reduction == pytest.approx(-model(b, g, p), rel=1e-9)
    assert found.length == pytest.approx(float(p.norm()), rel=1e-12)


@pytest.mark.parametrize("radius", RADII)
def test_the_multiplier_is_the_root_found_by_bisection(radius):
    b, g = MATRICES["indefinite"], random(6, seed=5)
    lowest = float(torch.linalg.eigvalsh(b)[0])

    def excess(shift):
        return float(torch.linalg.solve(b + shift * torch.eye(6, dtype=F64), g).norm()) - radius

    root = brentq(excess, -lowest + 1e-9, -lowest + 1e7, xtol=1e-13, rtol=1e-13)
    assert trust_exact(b, g, radius).multiplier == pytest.approx(root, rel=1e-7)


@pytest.mark.parametrize("gradient", [[0.0, 1.0, 1.0], [0.0, 0.0, 0.0]])
def test_the_hard_case_goes_to_the_boundary_along_the_lowest_eigenvector(gradient):
    b, g = torch.diag(torch.tensor([-2.0, 1.0, 3.0], dtype=F64)), torch.tensor(gradient, dtype=F64)
    found = trust_exact(b, g, 4.0)
    assert found.multiplier == pytest.approx(2.0)
    assert float(found.step.norm()) == pytest.approx(4.0)
    torch.testing.assert_close(found.step[1:], -g[1:] / torch.tensor([3.0, 5.0], dtype=F64))
    angles = np.random.default_rng(0).normal(size=(20_000, 3))
    points = torch.as_tensor(4 * angles / np.linalg.norm(angles, axis=1, keepdims=True))
    brute = float((points @ g + 0.5 * ((points @ b) * points).sum(1)).min())
    assert model(b, g, found.step) <= brute + 1e-12


def test_a_singular_but_consistent_model_gets_the_least_step():
    b, g = torch.diag(torch.tensor([0.0, 2.0], dtype=F64)), torch.tensor([0.0, 2.0], dtype=F64)
    found = trust_exact(b, g, 10.0)
    torch.testing.assert_close(found.step, torch.tensor([0.0, -1.0], dtype=F64))
    assert not found.on_boundary


def test_a_flat_direction_with_a_slope_is_followed_to_the_boundary():
    b, g = torch.diag(torch.tensor([0.0, 2.0], dtype=F64)), torch.tensor([1.0, 2.0], dtype=F64)
    found = trust_exact(b, g, 10.0)
    assert float(found.step.norm()) == pytest.approx(10.0)
    assert found.step[0] < -9.8


@pytest.mark.parametrize("radius", [*RADII, math.inf])
@pytest.mark.parametrize("name", MATRICES)
def test_steihaug_decreases_at_least_as_much_as_the_cauchy_point(name, radius):
    b, g = MATRICES[name], random(6, seed=5)
    found = steihaug(Dense(b), g, radius, tol=1e-12)
    p = found.step
    assert found.reduction == pytest.approx(-model(b, g, p), rel=1e-9)
    if math.isinf(radius):
        return
    assert float(p.norm()) <= radius * (1 + 1e-9)
    curvature = float(g @ b @ g)
    t = min(radius / float(g.norm()), float(g @ g) / curvature if curvature > 0 else math.inf)
    assert model(b, g, p) <= model(b, g, -t * g) + 1e-12
    assert model(b, g, p) >= model(b, g, trust_exact(b, g, radius).step) - 1e-9


def test_steihaug_inside_is_newtons_step():
    b, g = MATRICES["definite"], random(6, seed=5)
    found = steihaug(Dense(b), g, 1e3, tol=1e-13)
    torch.testing.assert_close(found.step, -torch.linalg.solve(b, g), rtol=1e-9, atol=1e-10)
    assert found.products <= 8
    assert not found.on_boundary
    assert found.converged


def test_steihaug_reports_negative_curvature():
    b, g = MATRICES["negative"], random(6, seed=5)
    for radius in (2.0, math.inf):
        found = steihaug(Dense(b), g, radius)
        d = found.negative_curvature
        assert float(d.norm()) == pytest.approx(1)
        assert float(d @ b @ d) < 0
        assert found.products == 1
        assert float(g @ found.step) < 0


def test_steihaug_says_when_it_runs_out():
    b = torch.diag(torch.logspace(0, 8, 50, dtype=F64))
    found = steihaug(Dense(b), torch.ones(50, dtype=F64), tol=1e-12, max_iterations=5)
    assert not found.converged
    assert found.products == 5
    assert "iteration limit" in found.reason


@pytest.mark.parametrize("solve", [trust_exact, lambda b, g, r: steihaug(Dense(b), g, r)])
def test_bad_subproblems_are_refused(solve):
    b, g = MATRICES["definite"], random(6)
    with pytest.raises(ValueError, match="Expected a trust-region radius > 0, got 0"):
        solve(b, g, 0.0)
    with pytest.raises(ValueError, match="Expected a gradient of finite numbers"):
        solve(b, g * math.nan, 1.0)


def test_bad_matrices_are_refused():
    with pytest.raises(ValueError, match=r"Expected a matrix of shape \[6, 6\], got \[5, 5\]"):
        trust_exact(spd(5), random(6), 1.0)
    with pytest.raises(ValueError, match="Expected a matrix of finite numbers"):
        trust_exact(spd(6) * math.inf, random(6), 1.0)
    with pytest.raises(ValueError, match="A product of the operator is not finite"):
        steihaug(Dense(spd(6) * math.inf, symmetric=True), random(6), 1.0)
