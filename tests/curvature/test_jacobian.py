"""The Jacobian against two dense oracles: reverse mode row by row, and finite or forward differences."""

import runpy
from pathlib import Path

import pytest
import torch
from torch import nn

import quadric
import zoo
from oracles import assert_close, gradient, jacobian

F64 = torch.float64
SOME = ["dense/mlp", "conv/2d", "norm/batch-2d-train", "norm/layer", "net/tied-embedding", "attention/sdpa-causal"]


def make(name, n=3, **options):
    case = zoo.CASES[name]
    (model, loss_fn), (inputs, targets) = case.build(), case.batch(n)
    return model, loss_fn, inputs, targets, quadric.Objective(model, loss_fn, **options)


@pytest.mark.parametrize("name", SOME)
def test_products_and_adjoint(name):
    model, _, inputs, _, objective = make(name)
    matrix = jacobian(model, inputs)
    buffers = [b.clone() for b in model.buffers()]
    j = quadric.Jacobian(objective, inputs)
    assert j.shape == tuple(matrix.shape)
    v, u = torch.randn(matrix.shape[1], 2, dtype=F64), torch.randn(matrix.shape[0], 2, dtype=F64)
    for _ in range(2):
        assert_close(j @ v, matrix @ v)
        assert_close(j @ v[:, 0], matrix @ v[:, 0])
        assert_close(j.T @ u, matrix.T @ u)
        assert_close(j.T @ u[:, 0], matrix.T @ u[:, 0])
    assert_close(j.T.T.to_dense(), matrix)
    assert all(torch.equal(a, b) for a, b in zip(buffers, model.buffers(), strict=True))


@pytest.mark.parametrize("name", ["dense/mlp", "norm/layer", "conv/2d"])
def test_against_forward_mode(name):
    model, _, inputs, _, objective = make(name)
    parameters = {k: p.detach() for k, p in model.named_parameters()}
    columns = torch.func.jacfwd(lambda p: torch.func.functional_call(model, p, (inputs,)))(parameters)
    j = quadric.Jacobian(objective, inputs)
    assert_close(j.to_dense(), torch.cat([c.reshape(j.shape[0], -1) for c in columns.values()], 1))


def test_gradient_is_the_transposed_jacobian_times_the_slope_of_the_loss():
    model, loss_fn, inputs, targets, objective = make("net/tied-embedding")
    outputs = model(inputs).detach().requires_grad_()
    loss_fn(outputs, targets).backward()
    j = quadric.Jacobian(objective, inputs)
    assert_close(j.T @ outputs.grad.reshape(-1), gradient(model, loss_fn, (inputs, targets)))


def test_of_one_layer_by_a_subset_of_parameters():
    model, _, inputs, _, objective = make("dense/mlp", params="0.*")
    assert_close(quadric.Jacobian(objective, inputs).to_dense(), jacobian(model, inputs, "0.*"))


def test_of_a_function_of_a_tensor():
    x = torch.tensor([0.3, -1.2, 2.0], dtype=F64)
    j = quadric.Jacobian(quadric.Objective.of(lambda x: torch.stack([x[0] * x[1], x[2].sin()]), x))
    assert_close(
        j.to_dense(), torch.tensor([[-1.2, 0.3, 0.0], [0.0, 0.0, torch.tensor(2.0, dtype=F64).cos()]], dtype=F64)
    )


def test_of_a_layer_in_its_input():
    layer = nn.Linear(3, 2).double()
    j = quadric.Jacobian(quadric.Objective.of(layer, torch.randn(3, dtype=F64)))
    assert_close(j.to_dense(), layer.weight.detach())


def test_follows_the_parameters():
    model, _, inputs, _, objective = make("dense/mlp")
    j = quadric.Jacobian(objective, inputs)
    v = torch.ones(j.shape[1], dtype=F64)
    j @ v, j @ v
    with torch.no_grad():
        next(model.parameters()).data.mul_(1.5)
    assert_close(j @ v, jacobian(model, inputs) @ v)


def test_composes_to_the_gauss_newton_matrix():
    model, loss_fn, inputs, targets, objective = make("dense/mlp")
    j = quadric.Jacobian(objective, inputs)
    y = model(inputs).detach()
    curvature = torch.autograd.functional.hessian(lambda y: loss_fn(y, targets), y).reshape(y.numel(), y.numel())
    g = j.T @ quadric.operators.Dense(curvature, j.codomain, j.codomain) @ j
    assert_close(g.to_dense(), quadric.GGN(objective, (inputs, targets)).to_dense())


def test_refusals():
    with pytest.raises(TypeError, match=r"Expected a quadric\.Objective, got Linear"):
        quadric.Jacobian(nn.Linear(2, 2), torch.ones(1, 2))

    class Pair(nn.Linear):
        def forward(self, x):
            return super().forward(x), x

    with pytest.raises(TypeError, match=r"outputs as one floating-point tensor, got tuple.*prediction="):
        quadric.Jacobian(quadric.Objective(Pair(2, 2), nn.MSELoss()), torch.ones(1, 2))
    j = quadric.Jacobian(quadric.Objective(nn.Linear(2, 3), nn.MSELoss()), torch.ones(4, 2))
    with pytest.raises(ValueError, match=r"n = 9, got shape \[12\]"):
        j @ torch.ones(12)
    with pytest.raises(ValueError, match=r"n = 12, got shape \[9\]"):
        j.T @ torch.ones(9)
    with pytest.raises(ValueError, match="rectangular operator"):
        j.space  # noqa: B018


def test_the_chain_rule_example():
    example = runpy.run_path(str(Path(__file__).parents[2] / "examples" / "chain_rule.py"))
    torch.manual_seed(1)
    layers = [nn.Conv1d(2, 3, 2), nn.Tanh(), nn.Flatten(), nn.Linear(9, 2)]
    net = nn.Sequential(*layers).double()
    x, target = torch.randn(3, 2, 4, dtype=F64), torch.randn(3, 2, dtype=F64)
    got = example["gradient_by_chain_rule"](layers, x, target)
    (0.5 * (net(x) - target).square().sum()).backward()
    want = [torch.cat([p.grad.reshape(-1) for p in layer.parameters()]) for layer in (net[3], net[0])]
    for a, b in zip(got, want, strict=True):
        assert_close(a, b)
