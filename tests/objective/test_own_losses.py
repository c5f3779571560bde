"""Loss functions of the user's own: that draw random numbers, and that have parameters."""

import functools

import pytest
import torch
from torch import nn

import quadric
from oracles.derivatives import ggn
from quadric.optim import CurveBall

F64 = torch.float64


class Dropped(nn.Module):
    """A quartic loss on half of the outputs, drawn at random."""

    def forward(self, outputs, targets):
        return (nn.functional.dropout(outputs - targets, 0.5) ** 4).mean()


class Fixed(nn.Module):
    """The same with a given choice."""

    def __init__(self, mask):
        super().__init__()
        self.mask = mask

    def forward(self, outputs, targets):
        return (((outputs - targets) * self.mask) ** 4).mean()


class Angles(nn.Module):
    """Cross-entropy after a linear map of the loss's own."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(3, 3, dtype=F64))

    def forward(self, outputs, targets):
        return nn.functional.cross_entropy(outputs @ self.weight, targets)


def masked(seed):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return Fixed(nn.functional.dropout(torch.ones(8, 3, dtype=F64), 0.5))


@pytest.fixture
def problem():
    return nn.Linear(4, 3).double(), (torch.randn(8, 4, dtype=F64), torch.randn(8, 3, dtype=F64))


def test_an_operator_draws_the_loss_s_random_numbers_once_for_all_its_evaluations(problem):
    model, batch = problem
    operator = quadric.GGN(quadric.Objective(model, Dropped()), batch, seed=3)
    expected = ggn(model, masked(3), batch)
    v = torch.randn(15, dtype=F64)
    before = torch.get_rng_state()
    for _ in range(3):
        assert torch.allclose(operator @ v, expected @ v, rtol=0, atol=1e-12)
    assert torch.equal(torch.get_rng_state(), before)


def test_a_step_uses_one_draw_of_the_loss(problem):
    model, batch = problem
    objective = quadric.Objective(model, Dropped())
    start = [p.detach().clone() for p in model.parameters()]
    steps = []
    for loss_fn in (Dropped(), masked(5)):
        torch._foreach_copy_([p.data for p in model.parameters()], start)
        objective = quadric.Objective(model, loss_fn)
        torch.manual_seed(5)
        optimizer = CurveBall(objective)
        optimizer.step(objective.on(batch))
        steps.append(objective.space.flatten([p.detach() - s for p, s in zip(model.parameters(), start, strict=True)]))
        assert optimizer.last_step.actual_reduction > 0
    assert torch.allclose(*steps, rtol=0, atol=1e-12)


class Structured(nn.Linear):
    def forward(self, x):
        return {"logits": super().forward(x)}


@pytest.mark.parametrize(
    "loss_fn", [nn.CrossEntropyLoss(), lambda y, t: (y.logits - t).mean()], ids=["torch's", "the user's"]
)
def test_outputs_that_are_no_tensor_are_told_with_the_remedy(loss_fn):
    objective = quadric.Objective(Structured(4, 3), loss_fn)
    with pytest.raises(TypeError, match=r"no tensor but dict .*prediction=lambda out: out\.logits"):
        objective.on((torch.randn(8, 4), torch.zeros(8, dtype=torch.long)))()


def test_a_class_is_no_loss_function():
    with pytest.raises(TypeError, match=r"got a class: write MSELoss\(\)\."):
        quadric.Objective(nn.Linear(4, 3), nn.MSELoss)


@pytest.mark.parametrize("name", ["curveball", "adam"])
def test_a_loss_that_autograd_can_not_follow_is_refused(name, problem):
    model, batch = problem
    objective = quadric.Objective(model, lambda y, t: ((y.detach() - t) ** 2).mean())
    optimizer = quadric.optim.create(name, objective)
    with pytest.raises(ValueError, match=r"does not depend on the model's outputs.*detach\(\)"):
        optimizer.step(objective.on(batch))


def as_it_is(loss):
    return loss


def as_a_method(loss):
    return loss.forward


def as_a_variable(loss):
    return lambda outputs, targets: loss(outputs, targets)


def as_a_partial(loss):
    return functools.partial(loss)


@pytest.mark.parametrize("form", [as_it_is, as_a_method, as_a_variable, as_a_partial])
def test_the_loss_s_own_parameters_are_constants(form, problem):
    model, (inputs, _) = problem
    batch = inputs, torch.randint(0, 3, (8,))
    loss = Angles()
    objective = quadric.Objective(model, form(loss))
    objective.on(batch)()
    assert loss.weight.grad is None
    assert all(p.grad is not None for p in model.parameters())
    optimizer = CurveBall(objective)
    losses = [float(optimizer.step(objective.on(batch))) for _ in range(5)]
    assert losses[-1] < losses[0]
    assert loss.weight.grad is None
    expected = ggn(model, loss, batch)
    assert torch.allclose(quadric.GGN(objective, batch).to_dense(), expected, rtol=0, atol=1e-12)
