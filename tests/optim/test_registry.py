"""Optimisers by name."""

import pytest
import torch
from torch import nn

import quadric

NAMES = ["sgd", "momentum", "nesterov", "adagrad", "rmsprop", "adadelta", "adam", "adamw", "curveball"]
NAMES += ["adahessian", "sophia", "soap", "shampoo", "muon"]


def small(dtype=torch.float32, **options):
    torch.manual_seed(1)
    model = nn.Sequential(nn.Linear(6, 16), nn.Tanh(), nn.Linear(16, 3)).to(dtype)
    x = torch.randn(128, 6, dtype=dtype)
    t = (x[:, :3] + 0.3 * x[:, 3:]).argmax(1)
    return model, quadric.Objective(model, nn.CrossEntropyLoss(), **options), (x, t)


@pytest.mark.parametrize("name", NAMES)
def test_every_name_gives_an_optimizer_that_lowers_the_loss_untouched(name):
    model, objective, (x, t) = small()
    optimizer = quadric.optim.create(name, objective)
    assert isinstance(optimizer, torch.optim.Optimizer)
    first = float(nn.functional.cross_entropy(model(x), t))
    for i in range(100):
        rows = torch.arange(64) + 64 * (i % 2)
        value = optimizer.step(objective.on((x[rows], t[rows])))
    assert torch.isfinite(value)
    assert float(nn.functional.cross_entropy(model(x), t)) < 0.9 * first


def test_names_that_are_registered_beyond_these_lower_the_loss_too():
    for name in sorted(set(quadric.optim.names()) - set(NAMES)):
        test_every_name_gives_an_optimizer_that_lowers_the_loss_untouched(name)


def test_names():
    names = quadric.optim.names()
    assert set(NAMES) <= set(names)
    assert len(set(names)) == len(list(names))


def test_classes():
    _, objective, _ = small()
    kinds = {
        "sgd": torch.optim.SGD,
        "momentum": torch.optim.SGD,
        "nesterov": torch.optim.SGD,
        "adagrad": torch.optim.Adagrad,
        "rmsprop": torch.optim.RMSprop,
        "adadelta": torch.optim.Adadelta,
        "adam": torch.optim.Adam,
        "adamw": torch.optim.AdamW,
        "curveball": quadric.optim.CurveBall,
        "adahessian": quadric.optim.AdaHessian,
        "sophia": quadric.optim.Sophia,
        "soap": quadric.optim.SOAP,
        "shampoo": quadric.optim.Shampoo,
        "muon": quadric.optim.Muon,
    }
    for name, kind in kinds.items():
        assert isinstance(quadric.optim.create(name, objective), kind), name
    assert quadric.optim.create("sgd", objective).param_groups[0]["momentum"] == 0
    assert quadric.optim.create("momentum", objective).param_groups[0]["momentum"] > 0
    assert quadric.optim.create("nesterov", objective).param_groups[0]["nesterov"]


@pytest.mark.parametrize("name", NAMES)
def test_hyper_parameters_are_passed_on(name):
    _, objective, _ = small()
    optimizer = quadric.optim.create(name, objective, lr=0.0123, weight_decay=0.02)
    assert optimizer.param_groups[0]["lr"] == 0.0123
    assert optimizer.param_groups[0]["weight_decay"] == 0.02


def test_a_subset_of_parameters_is_all_that_moves():
    for name in NAMES:
        model, objective, batch = small(params=["2.*"])
        kept = model[0].weight.detach().clone()
        optimizer = quadric.optim.create(name, objective)
        for _ in range(3):
            optimizer.step(objective.on(batch))
        assert torch.equal(model[0].weight, kept), name
        assert sum(len(g["params"]) for g in optimizer.param_groups) == 2, name


@pytest.mark.parametrize(
    ("wrong", "right"), [("adm", "adam"), ("curvebal", "curveball"), ("rms-prop", "rmsprop"), ("SDG", "sgd")]
)
def test_an_unknown_name_gets_the_nearest(wrong, right):
    _, objective, _ = small()
    with pytest.raises(ValueError, match=rf"(?s){wrong}.*{right}"):
        quadric.optim.create(wrong, objective)


def test_an_unknown_hyper_parameter_is_named():
    _, objective, _ = small()
    for name in NAMES:
        with pytest.raises((TypeError, ValueError), match="wobble"):
            quadric.optim.create(name, objective, wobble=1)
