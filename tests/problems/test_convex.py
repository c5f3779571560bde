"""The convex problems: their spectrum or reference optimum, and a short training run with a known outcome."""

import pytest
import torch

import quadric
from quadric import problems
from quadric.problems import logistic_regression, quadratic

CPU = torch.device("cpu")


def drawn(name):
    return problems.get(name).open(None, CPU)(0)


def test_the_quadratic_has_the_spectrum_it_promises():
    eigenvalues = quadratic.spectrum()
    instance = drawn("quadratic")
    objective = quadric.Objective(instance.model, instance.loss_fn)
    hessian = quadric.Hessian(objective, instance.train[0]).to_dense()
    torch.testing.assert_close(hessian, torch.diag(eigenvalues), rtol=1e-12, atol=1e-14)
    assert float(eigenvalues.max() / eigenvalues.min()) == pytest.approx(quadratic.CONDITION, rel=1e-12)


def test_the_reference_optimum_of_logistic_regression_is_stationary_and_has_the_stated_loss():
    x, y = logistic_regression.examples()
    assert x.shape == (569, 10)
    assert y.unique().tolist() == [0, 1]
    design, weights = torch.cat([x, torch.ones_like(y)], dim=1), torch.zeros(11, 1, dtype=torch.float64)
    for _ in range(20):
        p = torch.sigmoid(design @ weights)
        gradient = design.T @ (p - y) / len(y)
        weights -= torch.linalg.solve(design.T @ (design * p * (1 - p)) / len(y), gradient)
    assert gradient.norm() < 1e-12
    p = torch.sigmoid(design @ weights)
    loss = float(-(y * p.log() + (1 - y) * (1 - p).log()).mean())
    assert loss == pytest.approx(logistic_regression.MINIMUM, abs=1e-11)


@pytest.mark.parametrize("name", ["logistic-regression", "quadratic"])
@pytest.mark.parametrize(("optimizer", "settings"), [("curveball", {}), ("momentum", {"lr": 0.1})])
def test_training_lowers_the_loss_and_stays_above_the_minimum(name, optimizer, settings):
    instance = drawn(name)
    batch = instance.train[0]
    objective = quadric.Objective(instance.model, instance.loss_fn)
    method = quadric.optim.create(optimizer, objective, **settings)
    losses = [float(method.step(objective.on(batch))) for _ in range(30)]
    assert losses[-1] < 0.5 * losses[0]
    assert losses[-1] > (logistic_regression.MINIMUM if name == "logistic-regression" else 0)
