"""Passes through the model, counted as the engine makes them."""

import pytest
import torch

import quadric
from quadric import optim
from quadric.core.passes import PASSES, Passes


@pytest.fixture
def problem():
    model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Tanh(), torch.nn.Linear(4, 2))
    return quadric.Objective(model, torch.nn.CrossEntropyLoss()), (torch.randn(6, 3), torch.tensor([0, 1, 0, 1, 1, 0]))


def spent(work):
    """What `work()` costs."""
    counted, before = Passes(), PASSES.now()
    work()
    counted.add_since(before)
    return counted.forward, counted.backward, counted.curvature


def test_a_closure_is_one_forward_and_one_backward_pass_for_each_micro_batch(problem):
    objective, batch = problem
    assert spent(objective.on(batch)) == (1, 1, 0)
    assert spent(objective.on(batch, batch)) == (2, 2, 0)
    assert spent(objective.on(batch).value) == (1, 0, 0)


@pytest.mark.parametrize(
    ("curvature", "expected"), [(quadric.GGN, (0, 1, 1)), (quadric.Hessian, (0, 0, 1))], ids=["GGN", "Hessian"]
)
def test_a_further_product_is_one_curvature_product(problem, curvature, expected):
    operator = curvature(*problem)
    v = torch.randn(operator.shape[1])
    for _ in range(2):
        operator @ v
    assert spent(lambda: operator @ v) == expected
    assert spent(lambda: operator @ torch.stack([v, v], 1)) == tuple(2 * n for n in expected)


@pytest.mark.parametrize(("name", "expected"), [("sgd", (1, 1, 0)), ("adam", (1, 1, 0)), ("soap", (1, 1, 0))])
def test_a_step_of_a_first_order_method_is_one_pass_each_way(problem, name, expected):
    objective, batch = problem
    optimizer = optim.create(name, objective)
    optimizer.step(objective.on(batch))
    assert spent(lambda: optimizer.step(objective.on(batch))) == expected


def test_curveball_pays_for_two_directions_and_the_check_of_its_damping(problem):
    objective, batch = problem
    optimizer = optim.create("curveball", objective)
    optimizer.step(objective.on(batch))
    forward, backward, curvature = spent(lambda: optimizer.step(objective.on(batch)))
    assert (forward, curvature) == (2, 2)
    assert forward - 1 + backward - 1 + curvature == optimizer.last_step.products
