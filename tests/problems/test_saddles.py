"""Saddle problems: what `classify` says of their saddles, losses in closed form, and who gets away."""

import pytest
import torch

import quadric
from quadric import problems
from quadric.problems import deep_linear

CPU = torch.device("cpu")


def drawn(name, seed=0):
    instance = problems.get(name).open(None, CPU)(seed)
    return instance, quadric.Objective(instance.model, instance.loss_fn)


def put(instance, *values):
    with torch.no_grad():
        for parameter, value in zip(instance.model.parameters(), values, strict=True):
            parameter.copy_(value)


def steps_to_target(name, method, most, **settings):
    """The step that sees the target, from 1; None if none does."""
    instance, objective = drawn(name)
    optimizer = quadric.optim.create(method, objective, **settings)
    for step in range(1, most + 1):
        if float(optimizer.step(objective.on(next(instance.epoch(step))))) <= problems.get(name).target.threshold:
            return step
    return None


@pytest.mark.parametrize(("name", "kind", "eigenvalues"), [
    ("saddle", "saddle", [-2.0, 2.0]),
    ("monkey-saddle", "degenerate", [0.0, 0.0]),
])  # fmt: skip
def test_the_origin_is_stationary_and_of_the_kind_that_second_derivatives_give(name, kind, eigenvalues):
    instance, objective = drawn(name)
    put(instance, torch.zeros(2))
    point = quadric.classify(objective, instance.train[0])
    assert (point.kind, point.gradient_norm) == (kind, 0)
    assert point.eigenvalues.tolist() == pytest.approx(eigenvalues, abs=1e-12)


@pytest.mark.parametrize("name", ["saddle", "monkey-saddle"])
def test_starts_lie_near_the_origin(name):
    starts = torch.stack([drawn(name, seed)[0].model.position.detach() for seed in range(40)])
    assert starts.std() == pytest.approx(0.01, rel=0.3)


@pytest.mark.parametrize("name", ["saddle", "monkey-saddle"])
def test_gradient_descent_leaves(name):
    assert 10 < steps_to_target(name, "sgd", 1_000, lr=0.3 if name == "monkey-saddle" else 0.03) < 1_000


def test_newtons_method_is_drawn_to_the_saddle_and_its_saddle_free_form_leaves():
    instance, objective = drawn("saddle")
    hessian = quadric.Hessian(objective, instance.train[0])
    objective.on(instance.train[0])()
    newton = torch.linalg.solve(hessian.to_dense(), instance.model.position.grad)
    assert (instance.model.position.detach() - newton).norm() < 1e-15
    assert steps_to_target("saddle", "saddle-free-newton", 100) is not None


def test_the_deep_linear_network_starts_near_a_saddle_with_negative_curvature():
    instance, objective = drawn("deep-linear")
    put(instance, *deep_linear.saddle().parameters())
    point = quadric.classify(objective, instance.train[0])
    assert point.kind == "saddle"
    assert point.gradient_norm < 1e-12
    assert point.loss == pytest.approx(deep_linear.resting_loss(0))
    # −2⟨W₄W₁, A⟩ has a negative eigenvalue −2σ for each singular value and hidden unit, and a positive one
    assert point.index == 8 * 4
    assert float(point.eigenvalues[0]) == pytest.approx(-2)


def test_with_every_factor_zero_second_derivatives_decide_nothing():
    instance, objective = drawn("deep-linear")
    put(instance, *(torch.zeros_like(weight) for weight in instance.model.parameters()))
    assert quadric.classify(objective, instance.train[0]).kind == "degenerate"


@pytest.mark.parametrize("rank", range(5))
def test_losses_of_the_saddles_and_of_the_minimum_are_those_of_the_closed_form(rank):
    instance, objective = drawn("deep-linear")
    inputs, targets = instance.train[0]
    matrix = torch.linalg.lstsq(inputs, targets).solution.T
    left, values, right = torch.linalg.svd(matrix)
    torch.testing.assert_close(values, deep_linear.singular_values(), rtol=1e-10, atol=1e-12)
    first = values[:4].sqrt() * (torch.arange(4) < rank)
    put(instance, first[:, None] * right[:4], torch.eye(4), torch.eye(4), left[:, :4] * first)
    loss = objective.on(instance.train[0])()
    assert float(loss.detach()) == pytest.approx(deep_linear.resting_loss(rank), rel=1e-9)
    assert max(float(p.grad.abs().max()) for p in instance.model.parameters()) < 1e-10


def test_the_deep_linear_network_is_solved_above_its_minimum():
    assert 10 < steps_to_target("deep-linear", "adam", 500, lr=0.03) < 500
    assert problems.get("deep-linear").target.threshold > deep_linear.resting_loss(4)
