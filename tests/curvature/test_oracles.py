"""The oracles against closed forms and finite differences: an oracle that is wrong proves nothing."""

import pytest
import torch
from torch import nn

from oracles import assert_close, ggn, gradient, hessian, jacobian, loss
from oracles.derivatives import normaliser
from zoo import CASES, names

F64 = torch.float64
# Autograd's derivative of these is, on purpose, not the slope of the function.
NOT_THE_SLOPE = {"op/stop-gradient", "op/no-grad-scale", "seq/embedding-padding"}
SECOND = [name for name in CASES if CASES[name].hessian and name not in NOT_THE_SLOPE]


def test_squared_error_of_a_linear_model_in_closed_form():
    model, x, t = nn.Linear(4, 2, bias=False).double(), torch.randn(5, 4, dtype=F64), torch.randn(5, 2, dtype=F64)
    want = torch.kron(torch.eye(2, dtype=F64), 2 * x.T @ x / 10)
    assert_close(ggn(model, nn.MSELoss(), (x, t)), want, 1e-13)
    assert_close(hessian(model, nn.MSELoss(), (x, t)), want, 1e-13)
    assert_close(gradient(model, nn.MSELoss(), (x, t)), (2 * (model(x) - t).T @ x / 10).reshape(-1).detach(), 1e-13)


def test_cross_entropy_of_a_linear_model_in_closed_form():
    model, x, t = nn.Linear(4, 3, bias=False).double(), torch.randn(5, 4, dtype=F64), torch.randint(3, (5,))
    p = model(x).softmax(1).detach()
    want = sum(torch.kron(torch.diag(q) - torch.outer(q, q), torch.outer(a, a)) for q, a in zip(p, x, strict=True)) / 5
    assert_close(ggn(model, nn.CrossEntropyLoss(), (x, t)), want, 1e-13)
    assert_close(hessian(model, nn.CrossEntropyLoss(), (x, t)), want, 1e-13)


@pytest.mark.slow
@pytest.mark.parametrize("name", SECOND)
def test_hessian_against_differences_of_the_gradient(name):
    case = CASES[name]
    (model, loss_fn), batch = case.build(), case.batch()
    parameters = [p for p in model.parameters() if p.requires_grad]
    v = torch.randn(sum(p.numel() for p in parameters), dtype=F64)
    v /= v.norm()

    def shifted(step):
        with torch.no_grad():
            for p, d in zip(parameters, v.split([p.numel() for p in parameters]), strict=True):
                p.add_(step * d.view_as(p))

    h = 1e-6
    shifted(h)
    up = gradient(model, loss_fn, batch)
    shifted(-2 * h)
    down = gradient(model, loss_fn, batch)
    shifted(h)
    got, want = hessian(model, loss_fn, batch) @ v, (up - down) / (2 * h)
    assert (got - want).norm() <= 1e-6 * (1 + want.norm())


@pytest.mark.slow
@pytest.mark.parametrize("name", names("net/") + names("dense/") + names("norm/"))
def test_jacobian_against_forward_mode(name):
    case = CASES[name]
    (model, _), (inputs, _) = case.build(), case.batch()
    if "checkpoint" in name:
        pytest.skip("torch.func refuses checkpointed modules")
    trainable = {k: p.detach() for k, p in model.named_parameters() if p.requires_grad}

    def outputs(parameters):
        buffers = {k: b.clone() for k, b in model.named_buffers()}
        arguments, named = (
            (inputs, {}) if isinstance(inputs, tuple) else ((), inputs) if isinstance(inputs, dict) else ((inputs,), {})
        )
        return torch.func.functional_call(model, (parameters, buffers), arguments, named)

    try:
        columns = torch.func.jacfwd(outputs)(trainable)
    except (RuntimeError, NotImplementedError) as error:
        pytest.skip(f"forward mode: {str(error)[:80]}")
    want = jacobian(model, inputs)
    assert_close(torch.cat([c.reshape(want.shape[0], -1) for c in columns.values()], 1), want, 1e-12)


@pytest.mark.parametrize("name", names("loss/"))
def test_weights_of_batches_agree_with_one_large_batch(name):
    if name in ("loss/couples-examples", "loss/nll"):
        pytest.skip("not a weighted mean over examples")
    case = CASES[name]
    (model, loss_fn), batches = case.build(), case.batches(4, 3, 1)
    if name == "loss/lambda":
        batches = batches[:2]
    large = (torch.cat([x for x, _ in batches]), torch.cat([t for _, t in batches]))
    for oracle in (loss, gradient, ggn):
        assert_close(oracle(model, loss_fn, batches), oracle(model, loss_fn, large), 1e-12, oracle.__name__)


def test_a_batch_that_is_ignored_altogether_counts_nothing():
    case = CASES["loss/cross-entropy-plain"]
    (model, loss_fn), (x, t) = case.build(), case.batch()
    ignored = (x, torch.full_like(t, -100))
    assert normaliser(loss_fn, x, model(x), ignored[1]) == 0
    assert_close(ggn(model, loss_fn, [(x, t), ignored]), ggn(model, loss_fn, (x, t)), 1e-15)


@pytest.mark.xfail(strict=True, reason="torch 2.13: torch.func.hessian is silently wrong on normalised networks")
@pytest.mark.parametrize("name", ["norm/layer", "norm/batch-1d-train"])
def test_torch_func_hessian_is_mended(name):
    case = CASES[name]
    (model, loss_fn), (x, t) = case.build(), case.batch(5)
    sizes = [p.numel() for p in model.parameters()]

    def value(w):
        parameters = {k: e.view_as(p) for (k, p), e in zip(model.named_parameters(), w.split(sizes), strict=True)}
        buffers = {k: b.clone() for k, b in model.named_buffers()}
        return loss_fn(torch.func.functional_call(model, (parameters, buffers), (x,)), t)

    w = torch.cat([p.detach().reshape(-1) for p in model.parameters()])
    assert_close(torch.func.hessian(value)(w), hessian(model, loss_fn, (x, t)), 1e-8)


@pytest.mark.xfail(
    strict=True, raises=RuntimeError, reason="torch 2.13: double backward of weight_norm is silently wrong on the CPU"
)
def test_double_backward_of_weight_norm_is_mended():
    case = CASES["dense/weight-norm"]
    model, loss_fn = case.build()
    hessian(model, loss_fn, case.batch())
