"""The methods of table 1, each against the same thing done otherwise."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.optimize import minimize

from quadric.bench.paper.columns import COLUMNS
from quadric.bench.paper.contenders import CONTENDERS
from quadric.bench.paper.lsqnonlin import lsqnonlin
from quadric.bench.paper.side_by_side import side_by_side
from quadric.bench.stepping import follow, on_batches
from quadric.bench.watch import Watch
from quadric.objective import Objective

COLUMN = {column.problem: column for column in COLUMNS}
CONTENDER = {contender.name: contender for contender in CONTENDERS}


def instances(problem, seeds):
    draw = COLUMN[problem].task.open(None, torch.device("cpu"))
    return [draw(seed) for seed in seeds]


def solved(contender, problem, seeds, most_steps=60, keep=False):
    watches = [Watch(most_steps, 1e-4, keep=keep) for _ in seeds]
    CONTENDER[contender].run(COLUMN[problem], instances(problem, seeds), watches)
    return watches


def noise(instance, step):
    (epsilon, _) = next(instance.epoch(step))
    return float(epsilon)


# ---- CurveBall, written anew with dense NumPy matrices


def dense_curveball(instance, damping, lr, most_steps):
    """The paper's update on r = (1 − u, 10 √ε (v − u²)), f = ‖r‖²; the step that solves."""
    w, z = instance.model.position.detach().numpy().copy(), np.zeros(2)
    for step in range(1, most_steps + 1):
        root = noise(instance, step - 1) ** 0.5
        u, v = w
        r = np.array([1 - u, 10 * root * (v - u * u)])
        if r @ r < 1e-4:
            return step
        j = np.array([[-1, 0], [-20 * root * u, 10 * root]])
        c, g = 2 * j.T @ j + damping * np.eye(2), 2 * j.T @ r
        delta = c @ z + g
        matrix = np.array([[delta @ c @ delta, z @ c @ delta], [z @ c @ delta, z @ c @ z]])
        beta, minus_rho = np.linalg.lstsq(matrix, np.array([g @ delta, g @ z]), rcond=1e-14)[0]
        z = -minus_rho * z - beta * delta
        w = w + lr * z
    return None


@pytest.mark.parametrize("problem", ["rosenbrock", "rosenbrock-u1-squared", "rosenbrock-u3"])
def test_curveball_with_the_authors_settings_takes_the_steps_of_dense_numpy(problem):
    seeds = range(8)
    expected = [dense_curveball(instance, 0.1, 0.5, 60) for instance in instances(problem, seeds)]
    found = [watch.steps for watch in solved("curveball-authors", problem, seeds)]
    assert found == expected
    assert 11 <= np.mean(found) <= 15


@pytest.mark.parametrize("scale", [0.01, 100.0])
@pytest.mark.parametrize("problem", ["rosenbrock-u1-squared", "rahimi-recht"])
def test_our_default_does_not_change_when_the_loss_is_scaled(problem, scale):
    def scaled(instance):
        return replace(instance, loss_fn=lambda outputs, targets: scale * instance.loss_fn(outputs, targets))

    seeds = range(3)
    watches = [Watch(100, scale * 1e-4) for _ in seeds]
    CONTENDER["curveball"].run(COLUMN[problem], [scaled(i) for i in instances(problem, seeds)], watches)
    assert [w.steps for w in watches] == [w.steps for w in solved("curveball", problem, seeds, 100)]
    assert all(w.solved for w in watches)


@pytest.mark.parametrize("column", COLUMNS, ids=lambda column: column.problem)
def test_our_default_solves_all(column):
    watches = solved("curveball", column.problem, range(4), 100)
    assert all(watch.solved for watch in watches)
    assert np.mean([watch.steps for watch in watches]) <= (40 if column.problem == "rahimi-recht" else 5)


# ---- first-order methods side by side


@pytest.mark.parametrize("problem", ["rosenbrock-u3", "rahimi-recht"])
@pytest.mark.parametrize(
    ("make", "hypers"),
    [
        (
            torch.optim.SGD,
            [{"lr": 1e-4, "momentum": 0.9}, {"lr": 1e-4, "momentum": 0.9}, {"lr": 3e-4, "momentum": 0.5}],
        ),
        (torch.optim.Adam, [{"lr": 0.01}, {"lr": 0.1, "betas": [0.5, 0.9]}, {"lr": 0.1, "betas": [0.5, 0.9]}]),
    ],
)
def test_side_by_side_takes_the_steps_that_each_takes_alone(problem, make, hypers):
    together = [Watch(20, keep=True) for _ in hypers]
    side_by_side(make, instances(problem, range(3)), hypers, together)
    for watch, hyper, instance in zip(together, hypers, instances(problem, range(3)), strict=True):
        objective, alone = Objective(instance.model, instance.loss_fn), Watch(20, keep=True)
        follow(make(objective.parameters, **hyper), objective, on_batches(objective, instance), alone)
        np.testing.assert_allclose(watch.losses, alone.losses, rtol=1e-9)
        np.testing.assert_allclose(watch.path, alone.path, rtol=1e-9, atol=1e-12)


def test_a_run_that_diverges_leaves_the_others_alone():
    hypers = [{"lr": 1.0, "momentum": 0.9}, {"lr": 1e-3, "momentum": 0.9}]
    watches = [Watch(30, keep=True) for _ in hypers]
    side_by_side(torch.optim.SGD, instances("rosenbrock", [0, 0]), hypers, watches)
    assert [watch.status for watch in watches] == ["diverged", "finished"]
    assert watches[1].losses[-1] < watches[1].losses[0]


# ---- solvers from elsewhere


def residuals(w):
    return np.array([1 - w[0], 10 * (w[1] - w[0] ** 2)]), np.array([[-1, 0], [-20 * w[0], 10]])


@pytest.mark.parametrize("factor", [1.0, 2.0])
def test_levenberg_marquardt_takes_matlabs_first_steps(factor):
    (instance,) = instances("rosenbrock", [3])
    watch = Watch(4, keep=True)
    lsqnonlin(instance, watch, factor)
    w, damping = np.array(watch.path[0]), 0.01
    for there in watch.path[1:]:
        r, j = residuals(w)
        while True:
            augmented = np.vstack([factor * j, damping**0.5 * np.eye(2)])
            step = np.linalg.lstsq(augmented, -np.concatenate([r, np.zeros(2)]), rcond=None)[0]
            if np.sum(residuals(w + step)[0] ** 2) < r @ r:
                break
            damping *= 10
        w, damping = w + step, damping / 10
        np.testing.assert_allclose(there, w, rtol=1e-9)


def test_levenberg_marquardt_begins_anew_under_noise_and_solves():
    assert all(watch.solved for watch in solved("lm-doubled", "rosenbrock-u3-squared", range(4), 200))


def test_bfgs_counts_scipys_iterations():
    (instance,) = instances("rosenbrock", [0])
    seen = []

    def loss(w):
        r, j = residuals(w)
        return r @ r, 2 * j.T @ r

    start = instance.model.position.detach().numpy()
    minimize(
        loss, start, method="BFGS", jac=True, callback=lambda intermediate_result: seen.append(intermediate_result.fun)
    )
    first = next(i for i, value in enumerate([loss(start)[0], *seen], start=1) if value < 1e-4)
    (watch,) = solved("bfgs", "rosenbrock", [0])
    assert (watch.solved, watch.steps) == (True, first)


def test_bfgs_begins_anew_where_noise_stops_it_and_its_cost_is_bounded():
    watches = solved("bfgs", "rosenbrock-u3-squared", range(3), 200)
    assert all(watch.solved for watch in watches)
    assert [watch.steps for watch in solved("bfgs", "rosenbrock-u3-squared", range(2), 5)] == [5, 5]


def test_the_exact_hessian_solves():
    assert all(watch.solved for watch in solved("newton", "rosenbrock", range(3)))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("contender", "problem", "low", "high"),
    [
        ("momentum", "rosenbrock", 320, 400),
        ("momentum", "rosenbrock-u1-squared", 750, 950),
        ("momentum", "rahimi-recht", 90, 100),
        ("curveball-authors", "rahimi-recht", 25, 42),
    ],
)
def test_the_published_figures_are_met(contender, problem, low, high):
    watches = solved(contender, problem, range(40), 5000)
    assert all(watch.solved for watch in watches)
    assert low <= np.mean([watch.steps for watch in watches]) <= high
