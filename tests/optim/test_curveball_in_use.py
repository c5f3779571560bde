"""CurveBall as people use it: long runs, mixed precision, copies, gradients that are not finite, models that change."""

import copy
import warnings

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

import quadric
from quadric.optim import CurveBall


def mlp():
    return nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 3))


def batch(n=8, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, 4, generator=generator), torch.randint(0, 3, (n,), generator=generator)


def test_damping_does_not_run_away():
    """Random labels leave nothing to learn: the noise test objects for ever, and λ must stay with the curvature."""
    objective = quadric.Objective(mlp(), nn.CrossEntropyLoss())
    optimizer = CurveBall(objective)
    for seed in range(600):
        optimizer.step(objective.on(batch(seed=seed)))
    assert optimizer.damping.scale <= optimizer.damping.greatest
    assert optimizer.last_step.damping <= optimizer.damping.greatest * optimizer.damping.largest


@pytest.mark.parametrize("options", [{}, {"damping": 1.0}], ids=["default", "paper"])
@pytest.mark.parametrize("interval", [2, 5])
def test_it_trains_with_curvature_every_few_steps(options, interval):
    objective = quadric.Objective(mlp(), nn.CrossEntropyLoss())
    optimizer = CurveBall(objective, curvature_interval=interval, **options)
    losses = [float(optimizer.step(objective.on(batch(64)))) for _ in range(60)]
    assert losses[-1] < 0.85 * losses[0]
    assert max(losses) < 2 * losses[0]


def test_steps_between_are_heavy_ball():
    model = mlp().double()
    x, t = batch(32)
    objective = quadric.Objective(model, nn.CrossEntropyLoss())
    optimizer = CurveBall(objective, damping=1.0, curvature_interval=3)
    optimizer.step(objective.on((x.double(), t)))
    z = [optimizer.state[p]["z"].clone() for p in model.parameters()]
    w = [p.detach().clone() for p in model.parameters()]
    g = torch.autograd.grad(nn.CrossEntropyLoss()(model(x.double()), t), list(model.parameters()))
    optimizer.step(objective.on((x.double(), t)))
    rho, beta = optimizer.last_step.momentum, optimizer.last_step.step_size
    for p, before, velocity, slope in zip(model.parameters(), w, z, g, strict=True):
        assert torch.allclose(p, before + rho * velocity - beta * slope, atol=1e-14)


def test_the_loss_is_measured_at_the_new_weights_under_autocast():
    objective = quadric.Objective(mlp(), nn.CrossEntropyLoss())
    optimizer = CurveBall(objective)
    with torch.autocast("cpu", torch.bfloat16):
        losses = [float(optimizer.step(objective.on(batch(64)))) for _ in range(5)]
    assert optimizer.last_step.actual_reduction != 0
    assert losses[-1] < losses[0]


class Root(nn.Module):
    """Infinite slope at zero, where the loss is finite."""

    def __init__(self):
        super().__init__()
        self.w = nn.Parameter(torch.zeros(3))

    def forward(self, x):
        return x * self.w.sqrt()


@pytest.mark.parametrize(
    "options",
    [
        {"curvature": None, "momentum": 0.9, "step_size": 0.1},
        {"damping": 1.0, "adapt_damping": False, "momentum": 0.9, "step_size": 0.1},
        {"damping": 1.0},
        {},
    ],
    ids=["no-curvature", "fixed", "paper", "default"],
)
def test_a_gradient_that_is_not_finite_is_refused(options):
    model = Root()
    objective = quadric.Objective(model, nn.MSELoss())
    optimizer = CurveBall(objective, **options)
    with pytest.warns(quadric.StepRejected, match="not finite"):
        optimizer.step(objective.on((torch.ones(2, 3), torch.zeros(2, 3))))
    assert torch.equal(model.w, torch.zeros(3))
    assert optimizer.last_step.rejected


def test_a_copy_goes_on_as_the_original():
    model = mlp()
    objective = quadric.Objective(model, nn.CrossEntropyLoss())
    optimizer = CurveBall(objective)
    optimizer.step(objective.on(batch()))
    twin_model, twin = copy.deepcopy((model, optimizer))
    twin_objective = quadric.Objective(twin_model, nn.CrossEntropyLoss())
    optimizer.step(objective.on(batch()))
    twin.step(twin_objective.on(batch()))
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), twin_model.parameters(), strict=True))


def test_a_state_of_another_damping_rule_is_refused():
    objective = quadric.Objective(mlp(), nn.CrossEntropyLoss())
    with pytest.raises(ValueError, match=r"ModelDamping.*damping="):
        CurveBall(objective).load_state_dict(CurveBall(objective, damping=1.0).state_dict())


def test_a_group_s_settings_are_checked():
    with pytest.raises(ValueError, match="lr"):
        CurveBall([{"params": mlp().parameters(), "lr": float("nan")}])


def test_a_replaced_layer_is_noticed():
    model = mlp()
    objective = quadric.Objective(model, nn.CrossEntropyLoss())
    optimizer = CurveBall(objective)
    model[2] = nn.Linear(8, 3)
    with pytest.raises(ValueError, match=r"'2.weight'.*new Objective"):
        optimizer.step(objective.on(batch()))


def test_inference_mode_is_refused():
    objective = quadric.Objective(mlp(), nn.CrossEntropyLoss())
    with torch.inference_mode(), pytest.raises(ValueError, match="inference_mode"):
        objective.linearize(batch())


def test_an_interrupted_check_leaves_the_weights():
    model = mlp()
    objective = quadric.Objective(model, nn.CrossEntropyLoss())
    optimizer = CurveBall(objective)
    before = copy.deepcopy(model.state_dict())
    calls = []

    def interrupt(*_):
        calls.append(0)
        if len(calls) == 2:
            raise KeyboardInterrupt

    model.register_forward_pre_hook(interrupt)
    with pytest.raises(KeyboardInterrupt):
        optimizer.step(objective.on(batch()))
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


class Checkpointed(nn.Module):
    """BatchNorm inside a checkpointed block, which runs again in the reverse pass."""

    def __init__(self):
        super().__init__()
        self.first, self.norm, self.last = nn.Linear(4, 5), nn.BatchNorm1d(5), nn.Linear(5, 3)

    def forward(self, x):
        return self.last(checkpoint(lambda h: torch.tanh(self.norm(h)), self.first(x), use_reentrant=False))


@pytest.mark.parametrize("curvature", [quadric.GGN, quadric.Hessian])
def test_products_leave_the_buffers_of_checkpointed_blocks(curvature):
    model = Checkpointed()
    operator = curvature(quadric.Objective(model, nn.CrossEntropyLoss()), batch())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        for _ in range(3):
            operator @ torch.randn(operator.shape[0])
    assert int(model.norm.num_batches_tracked) == 0
