"""The empirical Fisher against per-example gradients and against dense Jacobians."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import quadric
import zoo
from oracles import assert_close, gradient, jacobian
from oracles.derivatives import as_batches, normaliser

F64 = torch.float64
SOME = [
    *("dense/mlp", "conv/2d", "norm/batch-2d-eval", "norm/layer", "net/tied-embedding", "attention/sdpa-causal"),
    *(name for name in zoo.names("loss/") if name != "loss/couples-examples"),
]


def alone(data):
    """Every example as a batch of its own."""
    for inputs, targets in as_batches(data):
        for n in range(targets.shape[0]):
            yield inputs[n : n + 1], targets[n : n + 1]


def oracle(model, loss_fn, data, centered=False):
    """Σ D_n g_n g_nᵀ / Σ D_n by one reverse pass per example."""
    rows, weights = [], []
    for inputs, targets in alone(data):
        weight = normaliser(loss_fn, inputs, model(inputs), targets)
        if weight > 0:
            weights.append(weight)
            rows.append(gradient(model, loss_fn, [(inputs, targets)]))
    g, w = torch.stack(rows), torch.tensor(weights, dtype=F64)
    w /= w.sum()
    if centered:
        g = g - w @ g
    return g.T @ (w[:, None] * g)


def make(name, *sizes):
    case = zoo.CASES[name]
    model, loss_fn = case.build()
    data = case.batches(*sizes) if len(sizes) > 1 else case.batch(sizes[0] if sizes else 3)
    return model, loss_fn, data, quadric.Objective(model, loss_fn)


def normalised_as_torch(name):
    """Losses whose D_n the oracle of the tests and the package read alike."""
    return name not in ("loss/function", "loss/nll", "loss/soft-margin", "loss/poisson-full", "loss/kl")


@pytest.mark.parametrize("centered", [False, True])
@pytest.mark.parametrize("name", [name for name in SOME if normalised_as_torch(name)])
def test_against_one_reverse_pass_per_example(name, centered):
    for sizes in ((3,), (4, 3, 1)):
        model, loss_fn, data, objective = make(name, *sizes)
        if name == "loss/lambda" and len(sizes) > 1:
            data = data[:2]
        want = oracle(model, loss_fn, data, centered)
        operator = quadric.EmpiricalFisher(objective, data, centered=centered)
        v = torch.randn(want.shape[0], 3, dtype=F64)
        for _ in range(2):
            assert_close(operator @ v, want @ v)
            assert_close(operator @ v[:, 0], want @ v[:, 0])


@pytest.mark.parametrize(
    "name", ["dense/mlp", "conv/2d", "net/tied-embedding", "loss/cross-entropy-all-image", "loss/mse-image"]
)
def test_against_the_dense_jacobian(name):
    model, loss_fn, (x, t), objective = make(name, 4)
    y = model(x).detach().requires_grad_()
    (u,) = torch.autograd.grad(loss_fn(y, t), y)
    j, total = jacobian(model, x).view(4, -1, objective.space.numel), normaliser(loss_fn, x, y, t)
    want = torch.zeros(objective.space.numel, objective.space.numel, dtype=F64)
    for n in range(4):
        count = normaliser(loss_fn, x[n : n + 1], y[n : n + 1], t[n : n + 1])
        if count:
            g = j[n].T @ u[n].reshape(-1)
            want += torch.outer(g, g) * total / count
    assert_close(quadric.EmpiricalFisher(objective, (x, t)).to_dense(), want)


@pytest.mark.parametrize(
    "name", ["dense/mlp", "loss/mse", "loss/cross-entropy-weights", "loss/bce", "loss/lambda", "loss/nll"]
)
def test_of_one_example_is_the_outer_product_of_its_gradient(name):
    model, loss_fn, data, objective = make(name, 1)
    g = gradient(model, loss_fn, data)
    assert_close(quadric.EmpiricalFisher(objective, data).to_dense(), torch.outer(g, g), 1e-13)
    centered = quadric.EmpiricalFisher(objective, data, centered=True).to_dense()
    assert centered.abs().max() <= 1e-15 * g.norm() ** 2


def test_of_a_plain_function_is_the_outer_product():
    x = torch.tensor([0.5, -1.0], dtype=F64)
    for fun in (lambda x: x[0] ** 2 * x[1], lambda x: torch.stack([x[0] * x[1], x[1]])):
        at = x.clone().requires_grad_()
        value = fun(at)
        value = value if value.dim() == 0 else 0.5 * value.square().sum()
        (want,) = torch.autograd.grad(value, at)
        operator = quadric.EmpiricalFisher(quadric.Objective.of(fun, x))
        assert_close(operator.to_dense(), torch.outer(want, want))


def test_however_the_examples_are_batched():
    _, _, data, objective = make("loss/cross-entropy-all-image", 4, 3, 1)
    whole = tuple(torch.cat(parts) for parts in zip(*data, strict=True))
    for centered in (False, True):
        split, joined = (quadric.EmpiricalFisher(objective, d, centered=centered).to_dense() for d in (data, whole))
        assert_close(split, joined)


def test_covariance_and_second_moment_differ_by_the_outer_product_of_the_gradient():
    model, loss_fn, data, objective = make("net/tied-embedding", 4, 3)
    g = gradient(model, loss_fn, data)
    moment, covariance = (quadric.EmpiricalFisher(objective, data, centered=c).to_dense() for c in (False, True))
    assert_close(moment - covariance, torch.outer(g, g))


def test_a_loss_of_ones_own_with_its_normaliser():
    model, x = nn.Linear(4, 3).double(), torch.randn(3, 4, dtype=F64)
    t = torch.tensor([1, -100, 2])
    data = (x, t)

    def own(y, t):
        return F.cross_entropy(y, t)

    with pytest.raises(ValueError, match="not a mean over examples"):
        quadric.EmpiricalFisher(quadric.Objective(model, own), data) @ torch.ones(15, dtype=F64)
    told = quadric.Objective(model, own, normalizer=lambda batch: (batch[1] != -100).sum())
    known = quadric.Objective(model, nn.CrossEntropyLoss())
    assert_close(quadric.EmpiricalFisher(told, data).to_dense(), quadric.EmpiricalFisher(known, data).to_dense())


def test_refusals():
    _, _, data, objective = make("loss/couples-examples")
    with pytest.raises(ValueError, match="not a mean over examples, so it has no per-example gradients"):
        quadric.EmpiricalFisher(objective, data) @ torch.ones(objective.space.numel, dtype=F64)
    _, _, data, objective = make("norm/batch-2d-train")
    with pytest.raises(ValueError, match=r"examples meet: module .*BatchNorm2d.*model\.eval\(\)"):
        quadric.EmpiricalFisher(objective, data)
    model = nn.Sequential(nn.Flatten(0), nn.Unflatten(0, (-1, 2)), nn.Linear(2, 3)).double()
    objective = quadric.Objective(model, lambda y, t: y.square().mean())
    data = (torch.ones(3, 4, dtype=F64), torch.zeros(3, dtype=F64))
    with pytest.raises(ValueError, match=r"first dimension is the batch of 3 examples, got outputs of shape \[6, 3\]"):
        quadric.EmpiricalFisher(objective, data) @ torch.ones(9, dtype=F64)


def test_going_back_to_train_mode_is_noticed():
    model, _, data, objective = make("norm/batch-2d-eval")
    operator = quadric.EmpiricalFisher(objective, data)
    v = torch.ones(objective.space.numel, dtype=F64)
    operator @ v, operator @ v
    model.train()
    with pytest.raises(ValueError, match="examples meet"):
        operator @ v


def test_a_loss_with_parameters_of_its_own_is_refused():
    model = nn.Linear(2, 2).double()
    objective = quadric.Objective(model, lambda y, t: y.square().mean() + model.weight.square().sum())
    data = (torch.ones(2, 2, dtype=F64), torch.zeros(2, 2, dtype=F64))
    with pytest.raises(ValueError, match="other than through the model's outputs"):
        quadric.EmpiricalFisher(objective, data) @ torch.ones(6, dtype=F64)
