"""How AdaHessian, Sophia, SOAP and Shampoo behave: refused steps, state, groups, micro-batches, training untouched."""

import copy
import warnings

import pytest
import torch
from torch import nn

import quadric
import zoo
from optim.adaptive_problems import F64, assert_same, cnn, everything, flat, mlp, seeded, stream
from oracles import assert_close
from quadric.optim import SOAP, AdaHessian, Muon, Shampoo, Sophia
from quadric.optim.hutchinson import gradient_and_diagonal

METHODS = {
    "adahessian": lambda p, **k: AdaHessian(p, **{"lr": 0.05, **k}),
    "adahessian-interval": lambda p, **k: AdaHessian(p, interval=2, **{"lr": 0.05, **k}),
    "sophia-gnb": lambda p, **k: Sophia(p, estimator="gnb", interval=2, **k),
    "sophia-hutchinson": lambda p, **k: Sophia(p, estimator="hutchinson", interval=2, **k),
    "soap": lambda p, **k: SOAP(p, interval=3, **k),
    "shampoo": lambda p, **k: Shampoo(p, interval=3, **k),
}
METHOD = pytest.mark.parametrize("method", METHODS)


# ── refused steps ────────────────────────────────────────────────────────────────────────────────────────────────────


class Fragile(nn.Module):
    """Mean-squared error times a factor that a test can spoil."""

    factor = 1.0

    def forward(self, y, t):
        return self.factor * nn.functional.mse_loss(y, t)


def fragile(method):
    model, loss_fn = seeded(cnn), Fragile()
    objective = quadric.Objective(model, loss_fn)
    batches = [(x, nn.functional.one_hot(t, 3).double()) for x, t in stream((2, 5, 5), 4)]
    make = METHODS["sophia-hutchinson" if method == "sophia-gnb" else method]
    return model, loss_fn, objective, batches, make(objective)


@METHOD
@pytest.mark.parametrize("factor", [float("nan"), float("inf"), 1e200], ids=["nan", "inf", "overflowing-square"])
@pytest.mark.parametrize("after", [0, 2])
def test_a_step_that_is_not_finite_is_refused(method, factor, after):
    model, loss_fn, objective, batches, optimizer = fragile(method)
    for batch in batches[:after]:
        optimizer.step(objective.on(batch))
    before, steps = everything(model, optimizer), optimizer.steps
    loss_fn.factor = factor
    with pytest.warns(quadric.StepRejected, match=r"not finite"):
        value = optimizer.step(objective.on(batches[3]))
    assert optimizer.last_step.rejected
    assert isinstance(value, torch.Tensor)
    assert_same(before, everything(model, optimizer))
    assert optimizer.steps == steps
    assert all(p.grad is None for p in model.parameters())
    loss_fn.factor = 1.0
    optimizer.step(objective.on(batches[0]))
    assert not optimizer.last_step.rejected


class Curved(nn.Module):
    """A loss whose value and gradient are finite at zero residual and whose curvature is not: |y − t|^1.5."""

    def forward(self, y, t):
        return ((y - t).abs() ** 1.5).mean()


@pytest.mark.parametrize("method", ["adahessian", "sophia-hutchinson"])
def test_a_curvature_that_is_not_finite_is_refused(method):
    model = nn.Linear(3, 2, bias=False).double()
    x = torch.randn(4, 3, dtype=F64)
    t = model(x).detach() + torch.tensor([[0.0, 0.0], [1.0, 1.0], [0.5, -1.0], [0.3, 0.2]], dtype=F64)
    objective = quadric.Objective(model, Curved())
    optimizer = METHODS[method](objective)
    before = everything(model, optimizer)
    with pytest.warns(quadric.StepRejected, match=r"curvature is not finite"):
        optimizer.step(objective.on((x, t)))
    assert_same(before, everything(model, optimizer))


@METHOD
def test_ten_refusals_in_a_row_raise(method):
    _, loss_fn, objective, batches, optimizer = fragile(method)
    loss_fn.factor = float("nan")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", quadric.StepRejected)
        for _ in range(9):
            optimizer.step(objective.on(batches[0]))
        with pytest.raises(quadric.ConvergenceError, match="10 steps in a row"):
            optimizer.step(objective.on(batches[0]))


# ── state ────────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("dtype", [torch.bfloat16, F64], ids=str)
def test_loading_keeps_dtypes_and_shares_nothing(dtype):
    model = seeded(mlp, dtype)
    objective = quadric.Objective(model, nn.CrossEntropyLoss())
    x, t = stream((4,), 1)[0]
    optimizer, other = SOAP(objective), SOAP(objective)
    optimizer.step(objective.on((x.to(dtype), t)))
    saved = optimizer.state_dict()
    kept = copy.deepcopy(saved)
    other.load_state_dict(saved)
    state = other.state[model[0].weight]
    assert state["basis_0"].dtype == state["square"].dtype == torch.promote_types(dtype, torch.float32)
    assert isinstance(state["gradient_count"], int)
    other.step(objective.on((x.to(dtype), t)))
    for key, entry in kept["state"].items():
        for name, value in entry.items():
            if isinstance(value, torch.Tensor):
                assert torch.equal(value, saved["state"][key][name]), name


# ── groups, schedulers ───────────────────────────────────────────────────────────────────────────────────────────────


@METHOD
def test_groups_have_rates_and_decays_of_their_own(method):
    """w ← (1 − ηω) w − η d with the same d as without groups, here at the first step; frozen layers stay."""
    model, batch = seeded(mlp), stream((4,), 1)[0]
    model[2].requires_grad_(False)
    twin = copy.deepcopy(model)
    objective = quadric.Objective(twin, nn.CrossEntropyLoss())
    METHODS[method](objective, lr=1.0).step(objective.on(batch))
    start = dict(copy.deepcopy(model).named_parameters())
    settings = {"0": (0.5, 0.1), "2": (3.0, 3.0), "4": (0.2, 0.0)}
    groups = [
        {"params": model[int(i)].parameters(), "lr": lr, "weight_decay": omega} for i, (lr, omega) in settings.items()
    ]
    objective = quadric.Objective(model, nn.CrossEntropyLoss())
    METHODS[method](groups).step(objective.on(batch))
    for name, p in model.named_parameters():
        lr, omega = settings[name[0]]
        direction = start[name] - dict(twin.named_parameters())[name]
        want = start[name] if name[0] == "2" else (1 - lr * omega) * start[name] - lr * direction
        assert_close(p, want.detach(), 1e-12, name)


@METHOD
def test_a_group_added_later_starts_afresh(method):
    """Its means have a bias of their own: the first step is that of a new optimiser."""
    model, batches = seeded(mlp), stream((4,), 30)
    objective = quadric.Objective(model, nn.CrossEntropyLoss())
    optimizer = METHODS[method](list(model[0].parameters()))
    for batch in batches[:28]:
        optimizer.step(objective.on(batch))
    fresh_model = copy.deepcopy(model)
    fresh = METHODS[method](list(fresh_model[4].parameters()))
    if hasattr(fresh, "interval"):
        fresh.steps = optimizer.steps
    optimizer.add_param_group({"params": list(model[4].parameters())})
    optimizer.step(objective.on(batches[28]))
    fresh.step(quadric.Objective(fresh_model, nn.CrossEntropyLoss()).on(batches[28]))
    assert optimizer.state[model[4].weight]["gradient_count"] == 1
    if "hutchinson" not in method and "adahessian" not in method:  # whose probes depend on what moves
        assert_close(model[4].weight, fresh_model[4].weight.detach(), 1e-12)


# ── batches, buffers, random numbers ─────────────────────────────────────────────────────────────────────────────────


def test_micro_batches_leave_gauss_newton_bartlett_unbiased():
    from oracles import ggn

    model, (x, t) = seeded(mlp), stream((4,), 1)[0]
    objective = quadric.Objective(model, nn.CrossEntropyLoss())
    dense, drawn = ggn(model, nn.CrossEntropyLoss(), (x, t)).diagonal(), []
    for seed in range(400):
        optimizer = Sophia(objective, seed=seed)
        closure = objective.on((x[:3], t[:3]), (x[3:], t[3:]))
        drawn.append(
            torch.cat([d.reshape(-1) for d in optimizer._look(closure, optimizer._weights(objective)).diagonal])
        )
    drawn = torch.stack(drawn)
    z = (drawn.mean(0) - dense) / (drawn.std(0) / 20).clamp(min=1e-12)
    assert z.abs().max() < 5


class Holed(nn.Module):
    """Dropout and BatchNorm around a function that the tape does not see through."""

    def __init__(self):
        super().__init__()
        self.first, self.norm, self.last = nn.Linear(4, 6), nn.BatchNorm1d(6), nn.Linear(6, 3)

    def forward(self, x):
        h = torch.utils.checkpoint.checkpoint(torch.tanh, self.norm(self.first(x)), use_reentrant=False)
        return self.last(nn.functional.dropout(h, 0.5))


def test_without_a_tape_random_numbers_and_buffers_are_those_of_one_evaluation():
    """Double backward evaluates the model again; gradient and product must still be of one and the same function."""
    model, batch = seeded(Holed), stream((4,), 1)[0]
    objective = quadric.Objective(model, nn.CrossEntropyLoss())
    optimizer = AdaHessian(objective)
    found = []
    for taped in (True, False):
        torch.manual_seed(5)
        seen, served = gradient_and_diagonal(objective.on(batch), optimizer._weights(objective), 3, taped)
        assert not served
        found.append(torch.cat([v.reshape(-1) for v in (*seen.gradient, *seen.diagonal)]))
    assert_close(found[0], found[1], 1e-12)
    assert model.norm.num_batches_tracked == 2


@METHOD
@pytest.mark.parametrize("decay", [0.0, 0.1])
def test_unused_parameters_stay_or_decay(method, decay):
    case = zoo.CASES["dense/unused-parameters"]
    (model, loss_fn), batch = case.build(), case.batch(6)
    kept = model.idle.weight.detach().clone()
    objective = quadric.Objective(model, loss_fn)
    optimizer = METHODS[method](objective, lr=0.01, weight_decay=decay)
    for _ in range(4):
        optimizer.step(objective.on(batch))
    assert_close(model.idle.weight, (1 - 0.01 * decay) ** 4 * kept, 1e-12)


def test_a_loss_that_holds_parameters_of_its_own_has_its_whole_gradient():
    """An L2 penalty written into the loss function: the gradient is not only that through the outputs."""
    model, batch = seeded(mlp), stream((4,), 1)[0]
    twin = copy.deepcopy(model)

    def penalised(y, t):
        return nn.functional.cross_entropy(y, t) + 0.1 * sum(p.square().sum() for p in model.parameters())

    objective = quadric.Objective(model, penalised)
    SOAP(objective, lr=0.01, max_dim=0).step(objective.on(batch))
    value = nn.functional.cross_entropy(twin(batch[0]), batch[1])
    (value + 0.1 * sum(p.square().sum() for p in twin.parameters())).backward()
    torch.optim.Adam(twin.parameters(), lr=0.01).step()
    assert_close(flat(model), flat(twin), 1e-10)


def test_muon_takes_what_torch_takes_and_any_memory_format():
    model = seeded(cnn, torch.float32)
    twin = copy.deepcopy(model).to(memory_format=torch.channels_last)
    one, other = Muon(model.named_parameters()), Muon([{"params": p} for p in twin.parameters()])
    for batch in [(x.float(), t) for x, t in stream((2, 5, 5), 4)]:
        for net, optimizer in ((model, one), (twin, other)):
            optimizer.zero_grad()
            nn.functional.cross_entropy(net(batch[0]), batch[1]).backward()
            optimizer.step()
    assert_close(flat(twin), flat(model), 1e-4)


# ── bad settings ─────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda p: AdaHessian(p, lr=-1.0), "lr"),
        (lambda p: AdaHessian(p, betas=(1.0, 0.9)), "betas"),
        (lambda p: AdaHessian(p, betas=(0.9, 1.0)), "betas"),
        (lambda p: AdaHessian(p, hessian_power=2.0), "hessian_power"),
        (lambda p: AdaHessian(p, interval=0), "interval"),
        (lambda p: Sophia(p, estimator="fisher"), "estimator"),
        (lambda p: Sophia(p, gamma=-1.0), "gamma"),
        (lambda p: Sophia(p, eps=float("nan")), "eps"),
        (lambda p: SOAP(p, interval=1.5), "interval"),
        (lambda p: SOAP(p, max_dim=-1), "max_dim"),
        (lambda p: SOAP(p, weight_decay=-1.0), "weight_decay"),
        (lambda p: Shampoo(p, graft="rmsprop"), "graft"),
        (lambda p: Shampoo(p, betas=(1.0, 1.0)), "betas"),
        (lambda p: Muon(p, momentum=1.0), "momentum"),
        (lambda p: Muon(p, lr=-1.0), "lr"),
    ],
)
def test_bad_settings(make, told):
    with pytest.raises(ValueError, match=f"Expected {told}"):
        make(quadric.Objective(mlp(), nn.CrossEntropyLoss()))


# ── untouched, on ordinary networks ──────────────────────────────────────────────────────────────────────────────────

ORDINARY = {
    "mlp": lambda: nn.Sequential(nn.Linear(64, 32), nn.Tanh(), nn.Linear(32, 10)),
    "cnn-batch-norm": lambda: nn.Sequential(
        nn.Unflatten(1, (1, 8, 8)), nn.Conv2d(1, 8, 3, 2, bias=False), nn.BatchNorm2d(8), nn.ReLU(),
        nn.Conv2d(8, 16, 3), nn.Flatten(), nn.Linear(16, 10),
    ),
    "dropout": lambda: nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Dropout(0.3), nn.Linear(64, 10)),
}  # fmt: skip


@pytest.mark.parametrize("name", ["adahessian", "sophia", "soap", "shampoo", "muon"])
@pytest.mark.parametrize("network", ORDINARY)
@pytest.mark.parametrize("size", [8, 128])
def test_it_trains_untouched(name, network, size):
    digits = pytest.importorskip("sklearn.datasets").load_digits()
    x, t = torch.tensor(digits.data).float().div(16), torch.tensor(digits.target)
    model = seeded(ORDINARY[network], torch.float32)
    objective = quadric.Objective(model, nn.CrossEntropyLoss())
    optimizer = quadric.optim.create(name, objective)
    generator, losses = torch.Generator().manual_seed(1), []
    torch.manual_seed(0)
    for _ in range(160):
        rows = torch.randint(len(x), (size,), generator=generator)
        losses.append(float(optimizer.step(objective.on((x[rows], t[rows])))))
    assert sum(losses[-20:]) / 20 < 0.8 * losses[0]
