"""The problems with a formula, against that formula."""

import pytest
import torch

from quadric import problems
from quadric.problems import linear_regression, rahimi_recht
from quadric.problems.least_squares import squared_norm

CPU = torch.device("cpu")


def drawn(name, seed=0):
    return problems.get(name).open(None, CPU)(seed)


def loss_at(instance, u, v, batch):
    with torch.no_grad():
        instance.model.position.copy_(torch.tensor([u, v], dtype=torch.float64))
        return float(instance.loss_fn(instance.model(batch[0]), batch[1]))


def test_rosenbrock_is_the_textbook_function_with_its_minimum_at_one_one():
    instance = drawn("rosenbrock")
    batch = next(instance.epoch(0))
    assert loss_at(instance, 1.0, 1.0, batch) == 0
    assert loss_at(instance, -1.2, 1.0, batch) == pytest.approx((1 + 1.2) ** 2 + 100 * (1 - 1.2**2) ** 2, rel=1e-14)


@pytest.mark.parametrize(("name", "noise"), [("rosenbrock-u1", 1.0), ("rosenbrock-u3", 3.0)])
def test_the_noise_multiplies_the_curved_term_and_is_drawn_anew_at_every_step(name, noise):
    instance = drawn(name)
    epsilons = [next(instance.epoch(step))[0] for step in range(400)]
    values = torch.cat(epsilons)
    assert 0 <= values.min() < 0.05 * noise
    assert 0.95 * noise < values.max() <= noise
    assert values.mean() == pytest.approx(noise / 2, abs=4 * noise / 12**0.5 / 400**0.5)
    batch = (epsilons[7], torch.zeros(1, 2, dtype=torch.float64))
    assert loss_at(instance, 0.5, 2.0, batch) == pytest.approx(0.25 + 100 * float(epsilons[7]) * 1.75**2, rel=1e-14)


@pytest.mark.parametrize("noise", ["u1", "u3"])
def test_the_squared_form_has_the_square_of_the_same_noise(noise):
    plain, squared = drawn(f"rosenbrock-{noise}"), drawn(f"rosenbrock-{noise}-squared")
    for step in range(5):
        torch.testing.assert_close(next(squared.epoch(step))[0], next(plain.epoch(step))[0] ** 2, rtol=1e-14, atol=0)


@pytest.mark.parametrize(("name", "mean"), [("rosenbrock-u3", 1.5), ("rosenbrock-u3-squared", 3.0)])
def test_rosenbrock_is_evaluated_on_the_expected_function(name, mean):
    instance = drawn(name)
    assert loss_at(instance, 0.0, 1.0, instance.train[0]) == pytest.approx(1 + 100 * mean, rel=1e-14)


def test_rosenbrock_starts_on_the_diagonal_near_minus_a_quarter():
    starts = torch.stack([drawn("rosenbrock", seed).model.position.detach() for seed in range(50)])
    assert torch.equal(starts[:, 0], starts[:, 1])
    assert starts.min() >= -0.5
    assert starts.max() <= 0
    assert starts[:, 0].std() == pytest.approx(0.5 / 12**0.5, rel=0.3)


def test_rahimi_recht_is_ill_conditioned_and_solvable():
    instance = drawn("rahimi-recht")
    (x, y), first, second = instance.train[0], instance.model[0], instance.model[1]
    assert x.shape == (1000, 6)
    assert y.shape == (1000, 10)
    assert x.dtype == torch.float64
    matrix = rahimi_recht.ill_conditioned(torch.Generator().manual_seed(0))
    assert matrix[0].mean() / matrix[9].mean() == pytest.approx(1e5, rel=0.9)
    answer = torch.linalg.lstsq(x, y).solution.T
    with torch.no_grad():
        first.weight.copy_(torch.eye(10, 6))
        second.weight.copy_(torch.nn.functional.pad(answer, (0, 4)))
        assert float(squared_norm(instance.model(x), y)) < 1e-25


def test_rahimi_recht_weights_have_the_deviations_of_the_authors_program():
    instances = [drawn("rahimi-recht", seed) for seed in range(40)]
    for layer, deviation in ((0, 2 / 16), (1, 0.1)):
        weights = torch.stack([instance.model[layer].weight.detach() for instance in instances])
        assert weights.std() == pytest.approx(deviation, rel=0.06)


@pytest.mark.parametrize("intercept", [True, False])
def test_the_closed_form_of_linear_regression_solves_the_normal_equations(intercept):
    x, y = linear_regression.points()
    design = torch.cat([x, torch.ones_like(x)], dim=1) if intercept else x
    weights, minimum = linear_regression.closed_form(intercept)
    expected = torch.linalg.solve(design.T @ design, design.T @ y).flatten()
    torch.testing.assert_close(weights, expected, rtol=1e-10, atol=0)
    assert minimum == pytest.approx(float((design @ expected[:, None] - y).square().mean()), rel=1e-12)


def test_without_intercept_the_best_slope_is_not_two():
    (slope, intercept), _ = linear_regression.closed_form(True)
    (alone,), _ = linear_regression.closed_form(False)
    assert slope == pytest.approx(2, abs=0.1)
    assert intercept == pytest.approx(1, abs=0.05)
    assert alone == pytest.approx(3.57, abs=0.01)


@pytest.mark.parametrize("name", ["linear-regression", "linear-regression-no-intercept"])
def test_the_closed_form_reaches_the_target_and_a_worse_line_does_not(name):
    problem, instance = problems.get(name), drawn(name)
    weights, _ = linear_regression.closed_form(instance.model.bias is not None)
    (x, y) = instance.train[0]
    with torch.no_grad():
        for parameter, value in zip(instance.model.parameters(), weights, strict=True):
            parameter.fill_(value)
        assert float(instance.loss_fn(instance.model(x), y)) <= problem.target.threshold
        next(instance.model.parameters()).add_(0.01)
        assert float(instance.loss_fn(instance.model(x), y)) > problem.target.threshold
