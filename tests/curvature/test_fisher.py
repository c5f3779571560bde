"""The Monte Carlo Fisher: its mean against the dense GGN, each draw against dense matrices."""

import pytest
import torch
from torch import nn

import quadric
import zoo
from oracles import assert_close, ggn, jacobian

F64 = torch.float64
LIKELIHOODS = [
    *zoo.names("loss/cross-entropy"),
    *("loss/mse", "loss/mse-image", "loss/bce", "loss/bce-soft-targets", "loss/bce-weight", "loss/bce-pos-weight"),
    *("loss/bce-both-weights-image", "loss/function"),
]


def make(name, *sizes):
    case = zoo.CASES[name]
    model, loss_fn = case.build()
    data = case.batches(*sizes) if len(sizes) > 1 else case.batch(sizes[0] if sizes else 3)
    return model, loss_fn, data, quadric.Objective(model, loss_fn)


@pytest.mark.parametrize("name", LIKELIHOODS)
def test_mean_of_the_draws_is_the_loss_hessian(name):
    """sᵢ sᵢᵀ block by block has the mean H_ℓ, within four standard errors, entry by entry."""
    model, loss_fn, (x, t), objective = make(name)
    y = model(x).detach()
    want = torch.autograd.functional.hessian(lambda y: loss_fn(y, t), y).reshape(y.numel(), y.numel())
    loss, generator = objective.loss, torch.Generator().manual_seed(0)
    dims = loss.block_dims(y)
    block = torch.arange(y.numel()).view(y.shape).amin(dims, keepdim=True).expand_as(y).reshape(-1)
    mask = block[:, None] == block
    count, first, second = 4000, torch.zeros_like(want), torch.zeros_like(want)
    for _ in range(count):
        s = loss.sample(y, t, generator).reshape(-1)
        draw = torch.outer(s, s) * mask
        first += draw / count
        second += draw**2 / count
    error = ((second - first**2) / count).clamp(min=0).sqrt()
    # 4 standard errors in each of some hundred entries; a tenth more for those of one and the same draw
    assert ((first - want).abs() <= 4.4 * error + 1e-12).all()


@pytest.mark.parametrize("name", ["loss/cross-entropy-all", "loss/mse", "loss/bce-pos-weight", "net/tied-embedding"])
def test_mean_within_four_standard_errors_of_the_ggn(name):
    model, loss_fn, data, objective = make(name, 4, 3)
    matrix = ggn(model, loss_fn, data)
    v = torch.randn(matrix.shape[0], dtype=F64)
    draws = torch.stack([v @ (quadric.Fisher(objective, data, seed=seed) @ v) for seed in range(200)])
    assert abs(draws.mean() - v @ matrix @ v) <= 4 * draws.std() / len(draws) ** 0.5


@pytest.mark.parametrize(
    "name", ["loss/cross-entropy-all-image", "loss/mse", "norm/batch-2d-train", "net/tied-embedding"]
)
def test_one_operator_is_one_matrix_made_of_its_draws(name):
    model, _, data, objective = make(name)
    operator = quadric.Fisher(objective, data, samples=3, seed=4)
    dense = operator.to_dense()
    local, _ = operator._current(once=False)
    matrix = jacobian(model, data[0])
    middle = torch.zeros(matrix.shape[0], matrix.shape[0], dtype=F64)
    y = local.linearization.outputs
    block = torch.arange(y.numel()).view(y.shape).amin(local.dims, keepdim=True).expand_as(y).reshape(-1)
    for s in local.slopes:
        middle += torch.outer(s.reshape(-1), s.reshape(-1)) * (block[:, None] == block) / 3
    assert_close(dense, matrix.T @ middle @ matrix)
    assert_close(quadric.Fisher(objective, data, samples=3, seed=4).to_dense(), dense, 1e-13)
    assert (quadric.Fisher(objective, data, samples=3, seed=5).to_dense() - dense).norm() > 1e-3 * dense.norm()


def test_two_routes_to_the_draws_of_cross_entropy():
    """The draws are the gradients of the loss at drawn targets, times √N."""
    _, loss_fn, (x, t), objective = make("loss/cross-entropy-plain", 5)
    y = objective.model(x).detach().requires_grad_()
    s = objective.loss.sample(y.detach(), t, torch.Generator().manual_seed(3))
    drawn = (s * 5**0.5 - y.detach().softmax(1)).argmin(1)  # the entry from which one was taken
    (slope,) = torch.autograd.grad(loss_fn(y, drawn), y)
    assert_close(s, slope * 5**0.5)


def test_is_one_function_over_several_batches_and_follows_the_parameters():
    model, _, data, objective = make("dense/mlp", 4, 3, 1)
    operator = quadric.Fisher(objective, data)
    v = torch.randn(operator.shape[0], dtype=F64)
    first = operator @ v
    assert torch.equal(operator @ v, first)
    assert operator.positive_semidefinite
    assert operator.symmetric
    with torch.no_grad():
        next(model.parameters()).data.mul_(1.5)
    assert not torch.allclose(operator @ v, first)


def test_more_samples_come_closer():
    model, loss_fn, data, objective = make("dense/mlp", 6)
    matrix = ggn(model, loss_fn, data)
    few, many = (quadric.Fisher(objective, data, samples=n).to_dense() for n in (1, 100))
    assert (many - matrix).norm() < 0.5 * (few - matrix).norm()


def test_draws_in_low_precision_have_the_right_frequencies():
    p = torch.tensor([0.5, 0.3, 0.15, 0.05], dtype=F64)
    loss = quadric.Objective(nn.Linear(1, 1), nn.CrossEntropyLoss()).loss
    count = 20_000
    for dtype in (torch.bfloat16, torch.float16, torch.float32, F64):
        y = p.log().to(dtype).expand(count, 4)
        s = loss.sample(y, torch.zeros(count, dtype=torch.long), torch.Generator().manual_seed(0))
        found = torch.bincount(s.float().argmin(1), minlength=4) / count
        assert ((found - p).abs() <= 4 * (p * (1 - p) / count).sqrt()).all()


@pytest.mark.parametrize("name", ["loss/huber", "loss/nll", "loss/lambda", "loss/module"])
def test_other_losses_are_refused(name):
    _, _, data, objective = make(name)
    with pytest.raises(ValueError, match=r"negative log-likelihood of a distribution to draw from.*quadric\.GGN"):
        quadric.Fisher(objective, data)


def test_bad_input():
    _, _, data, objective = make("dense/mlp")
    for samples in (0, -1, 1.5, True):
        with pytest.raises(ValueError, match=f"samples to be a positive integer, got {samples}"):
            quadric.Fisher(objective, data, samples=samples)
    model = nn.Linear(2, 2)
    with pytest.raises(ValueError, match=r"targets shaped like the outputs, \[3, 2\], got \[3, 1\]"), pytest.warns():
        quadric.Fisher(quadric.Objective(model, nn.MSELoss()), (torch.ones(3, 2), torch.ones(3, 1))) @ torch.ones(6)
    own = quadric.Objective(model, None, loss_of=lambda y: y.sum())
    with pytest.raises(ValueError, match="returns its own loss"):
        quadric.Fisher(own, (torch.ones(3, 2), torch.ones(3, 1))) @ torch.ones(6)
