"""Trajectories: where the methods go, how that ended, and what it has to do with the learning rate."""

import numpy as np
import pytest
import torch

from quadric.bench import trajectories
from quadric.bench.trajectories import Trajectory, method, read, record, trace, window
from quadric.problems import planes
from quadric.problems.planes import Plane

QUADRATIC = planes.get("quadratic")
A = np.array([[3.0, 2.0], [2.0, 6.0]])
B = np.array([2.0, -8.0])


def traced(plane, name, steps=50, **hyper):
    return trace(plane, method(name, name, hyper, plane), steps)


def test_gradient_descent_takes_the_steps_of_the_formula():
    found = traced(QUADRATIC, "sgd", 20, lr=0.1)
    x = np.array(QUADRATIC.start)
    for point, value in zip(found.points, found.values, strict=True):
        np.testing.assert_allclose(point, x, rtol=1e-9, atol=1e-12)
        assert value == pytest.approx(0.5 * x @ A @ x + B @ x + 10, abs=1e-9)
        x = x - 0.1 * (A @ x + B)
    assert len(found.points) == 21


def test_a_rate_that_is_too_large_diverges_for_a_reason():
    found = traced(QUADRATIC, "sgd", lr=0.5)
    assert found.status == "diverged"
    assert found.reason.startswith("diverged: f went from 27 to ")
    assert found.reason.endswith("lr = 0.5 is too large: the largest curvature met along a step, 7, allows up to 0.286")
    assert np.isfinite(found.values[-1])


def test_a_rate_that_is_too_small_is_called_small():
    found = traced(QUADRATIC, "sgd", lr=0.001)
    assert found.status == "finished"
    assert "not stationary" in found.reason
    assert "lr = 0.001 is small: the largest curvature met along a step" in found.reason


def test_a_good_rate_ends_stationary_and_is_not_remarked_on():
    found = traced(QUADRATIC, "sgd", 100, lr=0.2)
    assert "at (-2, 2)" in found.reason
    assert ", stationary (max |g| =" in found.reason
    assert "lr =" not in found.reason


def test_momentum_is_judged_by_its_own_limit():
    found = traced(QUADRATIC, "momentum", 200, lr=0.6)
    assert found.status == "diverged"
    assert f"allows up to {2 * 1.9 / 7:.3g}" in found.reason


def test_without_a_rate_the_curvature_at_the_start_gives_one():
    assert method("sgd", "sgd", {}, QUADRATIC).hyper["lr"] == pytest.approx(0.5 / 7, rel=1e-2)
    assert method("adam", "adam", {}, QUADRATIC).hyper == {}


def test_an_unbounded_function_is_fallen_down_without_a_nan():
    found = traced(planes.get("saddle"), "saddle-free-newton", 100)
    assert found.status == "diverged"
    assert found.reason.startswith("fell without bound: f went from 0.9999 to -")
    assert all(np.isfinite(found.values))


def test_a_method_that_gives_up_says_why():
    cliff = Plane("cliff", "", lambda x: torch.where(x[0] > 0, x.sum() ** 2 + x[1], torch.nan), (1e-3, 0.0))
    found = traced(cliff, "bfgs", 100)
    assert found.status in ("gave up", "diverged", "finished")
    assert "nan" not in found.reason or found.status != "finished"


@pytest.mark.parametrize("name", ["curveball", "levenberg-marquardt"])
def test_least_squares_methods_are_refused_without_residuals(name):
    with pytest.raises(ValueError, match="return a vector of residuals r"):
        method(name, name, {}, planes.get("saddle"))


def test_second_order_methods_reach_the_minimum_of_the_valley():
    for name in ("curveball", "bfgs", "levenberg-marquardt"):
        assert "at (1, 1)" in traced(planes.get("rosenbrock"), name, 100).reason


def test_the_window_holds_the_start_and_what_did_not_run_away():
    assert window(QUADRATIC, [traced(QUADRATIC, "sgd", 3, lr=0.1)]) == QUADRATIC.window
    own = Plane("own", "", QUADRATIC.fun, (2.0, -1.0))
    away = Trajectory("own", "away", [[2.0, -1.0], [1e9, 0.0]], [1.0, 1e20], "diverged", "")
    near = Trajectory("own", "near", [[2.0, -1.0], [-2.0, 2.0]], [1.0, 0.0], "finished", "")
    x0, x1, y0, y1 = window(own, [away, near])
    assert -3 < x0 < -2 < 2 < x1 < 3
    assert -2 < y0 < -1 < 2 < y1 < 3
    x0, x1, y0, y1 = window(own, [away])
    assert x0 < 2 < x1
    assert y0 < -1 < y1


def test_what_is_recorded_comes_back(tmp_path, monkeypatch):
    monkeypatch.setattr(trajectories, "SIDE", 5)
    methods = [method(name, name, {}, QUADRATIC) for name in ("sgd", "curveball")]
    done = list(record(QUADRATIC, methods, 10, tmp_path / "records.jsonl", {"quadric": "0"}))
    ways = read(tmp_path / "records.jsonl")
    assert ways.trajectories == done
    assert ways.methods == methods
    surface = ways.surfaces["quadratic"]
    assert np.shape(surface.values) == (5, 5)
    corner = torch.tensor([surface.window[1], surface.window[2]], dtype=torch.float64)
    assert surface.values[0][-1] == pytest.approx(float(QUADRATIC.value(corner)), rel=1e-4)


def test_other_lines_are_refused(tmp_path):
    path = tmp_path / "records.jsonl"
    path.write_text('{"kind": "trajectories", "format": 1}\n{"kind": "trajectory", "a": 1}\n{"kind": "surface"}\n')
    with pytest.raises(ValueError, match=r"line 2 is not a record .* or run it again with --overwrite"):
        read(path)
