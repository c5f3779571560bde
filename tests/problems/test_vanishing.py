"""The gradient does vanish: the first layer's is tiny, no rate helps gradient descent, and other methods go on."""

import math

import pytest
import torch

import quadric
from quadric import problems
from quadric.bench.rates import searched, target
from quadric.bench.tuning import COARSE

CPU = torch.device("cpu")
NAMES = ["vanishing-sigmoid", "vanishing-tanh"]
CONSTANT = math.log(10)


def loss_after(name, method, epochs, **settings):
    """Train loss of seed 0."""
    instance = problems.get(name).open(None, CPU)(0)
    objective = quadric.Objective(instance.model, instance.loss_fn)
    optimizer = quadric.optim.create(method, objective, **settings)
    for epoch in range(epochs):
        for batch in instance.epoch(epoch):
            optimizer.step(objective.on(batch))
    inputs, targets = instance.train[0]
    with torch.no_grad():
        return float(instance.loss_fn(instance.model(inputs), targets))


@pytest.mark.parametrize("name", NAMES)
def test_the_gradient_shrinks_a_hundredfold_on_its_way_to_the_first_layer(name):
    instance = problems.get(name).open(None, CPU)(0)
    inputs, targets = instance.train[0]
    instance.loss_fn(instance.model(inputs), targets).backward()
    norms = [p.grad.norm() for p in instance.model.parameters() if p.dim() == 2]
    assert norms[0] < 1e-3
    assert norms[0] < 0.01 * norms[-1]


def test_tanh_units_start_saturated():
    instance = problems.get("vanishing-tanh").open(None, CPU)(0)
    with torch.no_grad():
        hidden = instance.model[:2](instance.train[0][0])
    assert (1 - hidden.square()).median() < 0.3


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("rate", COARSE)
def test_gradient_descent_stalls_at_every_rate_of_the_search(name, rate):
    assert not loss_after(name, "sgd", problems.get(name).epochs, lr=rate) < CONSTANT - 0.05


@pytest.mark.parametrize("name", NAMES)
def test_the_committed_search_says_so_too(name):
    tried = searched()["problems"][name]["optimizers"]["sgd"]["tried"]
    assert all(missed == 2 for missed, _, _ in tried.values())
    assert all(loss is None or loss > CONSTANT - 0.05 for _, _, loss in tried.values())


@pytest.mark.parametrize(
    ("name", "method", "settings"),
    [
        ("vanishing-sigmoid", "adam", {"lr": 0.03}),
        ("vanishing-sigmoid", "kfac", {}),
        ("vanishing-tanh", "adam", {"lr": 0.003}),
    ],
)
def test_other_methods_get_away(name, method, settings):
    assert loss_after(name, method, 10, **settings) < 2.0


@pytest.mark.parametrize("name", NAMES)
def test_the_target_is_what_tuned_first_order_methods_reach(name):
    assert "re-runs of the best tuned first-order method" in target(problems.get(name)).origin
    assert target(problems.get(name)).threshold < CONSTANT - 0.5
