"""What every optimiser promises, by name: closures, groups, schedulers, decay, state, parameters that are zero, unused,
frozen or used now and then, micro-batches, mixed precision, compiled models, reports."""

import copy
import io
import math
from functools import partial

import pytest
import torch
from torch import nn
from torch.optim import lr_scheduler

import quadric
from optim.shared import F64, assert_same_run, dropout_net, flat, mlp, seeded, stream
from oracles import assert_close
from quadric.optim import QuadraticStep
from quadric.optim.optimizer import CurvatureOptimizer

SETTINGS = {
    **{name: (name, {}) for name in quadric.optim.names()},
    "curveball-paper": ("curveball", {"damping": 1.0}),
    "curveball-fraction": ("curveball", {"curvature_fraction": 0.5}),
    "curveball-interval": ("curveball", {"curvature_interval": 2}),
    "newton-hessian": ("newton", {"curvature": "hessian"}),
    "newton-fisher": ("newton", {"curvature": "fisher"}),
    "newton-diagonal": ("newton", {"structure": "diagonal"}),
    "newton-block-diagonal": ("newton", {"structure": "block-diagonal"}),
    "newton-low-rank": ("newton", {"structure": "low-rank"}),
    "newton-kronecker": ("newton", {"structure": "kronecker"}),
    "newton-cg-hessian": ("newton-cg", {"curvature": "hessian"}),
    "trust-region-cg": ("trust-region", {"exact_below": 1}),
    "kfac-exact": ("kfac", {"fisher": "exact"}),
    "adahessian-interval": ("adahessian", {"interval": 2}),
    "sophia-hutchinson": ("sophia", {"estimator": "hutchinson", "interval": 2}),
    "soap-interval": ("soap", {"interval": 3}),
    "shampoo-interval": ("shampoo", {"interval": 3}),
}
"""Each name as it is, and those settings that run other code."""


def quadratic_step(objective, params=None, **options):
    params = list(objective.parameters) if params is None else params
    return QuadraticStep(torch.optim.Adam(params, **options), objective)


def by_name(name, objective, params=None, **options):
    """The optimiser of that setting; `params` in place of the objective's."""
    name, settings = SETTINGS[name]
    made = quadric.optim.create(name, objective, **settings, **options)
    if params is None:
        return made
    first_order = not isinstance(made, CurvatureOptimizer)
    shared = (
        {k: v for k, v in made.defaults.items() if k in ("lr", "momentum", "nesterov")} if first_order else settings
    )
    return type(made)(params, **{**shared, **options})


METHODS = {name: partial(by_name, name) for name in SETTINGS} | {"quadratic-step": quadratic_step}
OURS = [
    name for name in METHODS if isinstance(METHODS[name](quadric.Objective(mlp(), nn.MSELoss())), CurvatureOptimizer)
]
every = pytest.mark.parametrize("name", METHODS)
ours = pytest.mark.parametrize("name", OURS)


def started(name, make=mlp, loss_fn=None, **options):
    model = seeded(make)
    objective = quadric.Objective(model, loss_fn or nn.CrossEntropyLoss())
    return model, objective, METHODS[name](objective, **options)


# ── closures and reports ─────────────────────────────────────────────────────────────────────────────────────────────


@every
def test_a_step_returns_the_loss_before_it_and_says_what_it_did(name):
    model, objective, optimizer = started(name)
    for x, t in stream((4,), 3):
        before = nn.functional.cross_entropy(model(x), t).item()
        loss = optimizer.step(objective.on((x, t)))
        assert isinstance(loss, torch.Tensor)
        assert loss.shape == ()
        assert not loss.requires_grad
        assert float(loss) == pytest.approx(before, rel=1e-12)
        if name in OURS:
            assert all((p.grad is None) == (name != "quadratic-step") for p in model.parameters())
            numbers = optimizer.last_step.numbers()
            assert numbers["loss"] == float(loss)
            assert numbers["rejected"] == 0.0
            assert all(isinstance(v, float) and math.isfinite(v) for v in numbers.values())


@ours
def test_a_plain_closure_gets_the_two_lines_that_fix_it(name):
    model, objective, optimizer = started(name)
    x, t = stream((4,), 1)[0]
    before = flat(model)
    for closure in (lambda: nn.functional.cross_entropy(model(x), t), partial(float, 1.0), None):
        with pytest.raises(
            TypeError,
            match=r"objective = quadric\.Objective\(model, loss_fn\)\n *optimizer\.step\(objective\.on\(",
        ):
            optimizer.step(closure)
    assert torch.equal(flat(model), before)
    optimizer.step(objective.on((x, t)))


@ours
def test_a_closure_is_good_for_one_step_and_may_come_in_a_partial(name):
    """Trainers hand closures on inside a `functools.partial` of a function of theirs."""
    _, objective, optimizer = started(name)
    closure = objective.on(stream((4,), 1)[0])
    optimizer.step(partial(lambda trainer, closure: closure(), "trainer", closure))
    with pytest.raises(ValueError, match="earlier step"):
        optimizer.step(closure)


@every
def test_batch_norm_is_counted_and_dropout_drawn_once_a_step(name):
    model, objective, optimizer = started(name, dropout_net)
    for i, batch in enumerate(stream((4,), 4, n=16)):
        torch.manual_seed(8)
        copy.deepcopy(model)(batch[0])
        after_one = torch.get_rng_state()
        torch.manual_seed(8)
        optimizer.step(objective.on(batch))
        assert torch.equal(torch.get_rng_state(), after_one)
        assert model[1].num_batches_tracked == i + 1


SAMPLED = {"kfac", "ekfac", "newton-fisher", "sophia", "curveball-fraction"}
"""What draws targets, or cuts batches, sees other curvature on micro-batches."""


@every
def test_micro_batches_make_the_step_of_the_whole(name):
    """SOAP on sides of at most 4: larger ones have no unique eigenvectors while their moments lack full rank."""
    options = {"max_dim": 4} if name.startswith("soap") else {}
    model, objective, optimizer = started(name, **options)
    twin, parts, other = started(name, **options)
    for x, t in stream((4,), 4):
        whole, of_parts = optimizer.step(objective.on((x, t))), other.step(parts.on((x[:3], t[:3]), (x[3:], t[3:])))
        if name not in SAMPLED:
            assert float(whole) == pytest.approx(float(of_parts), rel=1e-8)
            assert_close(flat(model), flat(twin), 1e-6)
    assert math.isfinite(of_parts)


# ── groups, decay, schedulers ────────────────────────────────────────────────────────────────────────────────────────


@every
def test_groups_have_rates_of_their_own_and_come_in_any_order(name):
    model = seeded(mlp)
    objective = quadric.Objective(model, nn.CrossEntropyLoss())
    rates = {4: 0.0, 0: 0.01, 2: 0.02}
    optimizer = METHODS[name](objective, [{"params": model[i].parameters(), "lr": lr} for i, lr in rates.items()])
    for batch in stream((4,), 3):
        before = {n: p.detach().clone() for n, p in model.named_parameters()}
        optimizer.step(objective.on(batch))
        for n, p in model.named_parameters():
            assert torch.equal(p, before[n]) == n.startswith("4"), n


@pytest.mark.parametrize("name", [name for name in METHODS if name not in ("dfp", "quadratic-step")])
def test_half_the_rate_is_half_the_step(name):
    """But for an accurate line search, which makes up for it, and a wrapped optimiser's rates, which are relative."""
    moved = []
    for lr in (1e-3, 5e-4):
        model, objective, optimizer = started(name, lr=lr)
        before = flat(model)
        optimizer.step(objective.on(stream((4,), 1)[0]))
        moved.append(flat(model) - before)
    assert_close(2 * moved[1], moved[0], 1e-8)


@every
@pytest.mark.parametrize(
    "make",
    [
        partial(lr_scheduler.StepLR, step_size=2, gamma=0.0),
        partial(lr_scheduler.CosineAnnealingLR, T_max=2),
        partial(lr_scheduler.LambdaLR, lr_lambda=lambda epoch: float(epoch < 2)),
    ],
    ids=["step", "cosine", "lambda"],
)
def test_schedulers_drive_the_rate_to_a_stop(name, make):
    model, objective, optimizer = started(name)
    scheduler = make(optimizer)
    for i, batch in enumerate(stream((4,), 3)):
        before = flat(model)
        optimizer.step(objective.on(batch))
        scheduler.step()
        assert torch.equal(flat(model), before) == (i == 2)


@every
def test_one_cycle_drives_the_rate_and_leaves_automatic_momentum_alone(name):
    """OneCycleLR writes `momentum` into groups that have one; torch refuses it where there is nothing to cycle."""

    def run(**options):
        model, objective, optimizer = started(name)
        scheduler = lr_scheduler.OneCycleLR(optimizer, max_lr=0.5, total_steps=8, **options)
        for batch in stream((4,), 6):
            optimizer.step(objective.on(batch))
            scheduler.step()
        return flat(model), optimizer

    without, optimizer = run(cycle_momentum=False)
    if not {"momentum", "betas"} & set(optimizer.defaults):
        with pytest.raises(ValueError, match="must support momentum"):
            run()
        return
    moved, optimizer = run()
    if optimizer.defaults.get("momentum", 0.0) is None:
        assert torch.equal(moved, without)
    elif name != "sgd":
        assert not torch.equal(moved, without)


# ── parameters that get no gradient, or not always ───────────────────────────────────────────────────────────────────


class Sometimes(nn.Module):
    """A layer used where the first number of a batch is positive, and one that never is."""

    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Linear(4, 6), nn.Linear(6, 3)
        self.sometimes, self.never = nn.Linear(6, 6), nn.Linear(2, 2)

    def forward(self, x):
        h = torch.tanh(self.first(x))
        if x[0, 0] > 0:
            h = h + torch.tanh(self.sometimes(h))
        return self.last(h)


def steered(used):
    """Batches that use the layer or do not."""
    batches = stream((4,), len(used), n=16)
    for (x, _), use in zip(batches, used, strict=True):
        x[0, 0] = x[0, 0].abs() if use else -x[0, 0].abs()
    return batches


@every
@pytest.mark.parametrize(
    "used", [[False, True, True, False, False, True, True], [True, False, False, False, True, True, False]], ids=str
)
def test_a_layer_that_is_used_now_and_then(name, used):
    model, objective, optimizer = started(name, Sometimes)
    batches, before = steered(used), {n: p.detach().clone() for n, p in model.named_parameters()}
    first = objective.evaluate(batches)
    for i, batch in enumerate(batches):
        optimizer.step(objective.on(batch))
        assert i > 0 or torch.equal(model.sometimes.weight, before["sometimes.weight"]) != used[0]
    assert objective.evaluate(batches) < first
    for n, p in model.named_parameters():
        assert torch.equal(p, before[n]) == n.startswith("never"), n


@every
def test_frozen_parameters_stay(name):
    """Also where torch's own `model.parameters()` is handed over, frozen ones included."""
    for whole in (False, True):
        model = seeded(mlp)
        model[2].requires_grad_(False)
        kept = {n: p.clone() for n, p in model[2].named_parameters()}
        objective = quadric.Objective(model, nn.CrossEntropyLoss())
        optimizer = METHODS[name](objective, list(model.parameters()) if whole else None)
        before = flat(model)
        for batch in stream((4,), 3):
            optimizer.step(objective.on(batch))
        assert not torch.equal(flat(model), before)
        assert all(torch.equal(p, kept[n]) for n, p in model[2].named_parameters())


@pytest.mark.parametrize("name", [name for name in OURS if name != "quadratic-step"])
def test_weight_decay_shrinks_what_is_not_used(name):
    """torch's optimisers, and what wraps them, pass over parameters without a gradient."""
    model, objective, optimizer = started(name, Sometimes, weight_decay=0.1)
    before = model.never.weight.detach().clone()
    for batch in steered([True] * 4):
        optimizer.step(objective.on(batch))
    assert float(model.never.weight.detach().norm()) < float(before.norm())


@every
def test_a_gradient_of_zero_moves_nothing_and_spoils_nothing(name):
    model = nn.Linear(3, 2).double()
    for p in model.parameters():
        nn.init.zeros_(p)
    objective = quadric.Objective(model, nn.MSELoss())
    optimizer = METHODS[name](objective)
    for _ in range(3):
        optimizer.step(objective.on((torch.zeros(5, 3, dtype=F64), torch.zeros(5, 2, dtype=F64))))
        assert torch.equal(flat(model), torch.zeros(8, dtype=F64))
    x = torch.randn(16, 3, dtype=F64)
    batch = (x, x[:, :2] + 1)
    first = objective.evaluate(batch)
    for _ in range(5):
        optimizer.step(objective.on(batch))
    assert objective.evaluate(batch) < first


# ── state ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def interrupted(name, make, dtype, at_step, batches):
    """A run that goes straight on, and one from its file in what might be another process."""

    def start():
        model = seeded(make).to(dtype)
        objective = quadric.Objective(model, nn.CrossEntropyLoss())
        return model, objective, METHODS[name](objective)

    batches = [(x.to(dtype), t) for x, t in batches]
    model, objective, optimizer = start()
    torch.manual_seed(42)
    for batch in batches[:at_step]:
        optimizer.step(objective.on(batch))
    file, random = io.BytesIO(), torch.get_rng_state()
    torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict()}, file)
    straight = [float(optimizer.step(objective.on(b))) for b in batches[at_step:]]
    torch.manual_seed(7)
    again, objective, resumed = start()
    file.seek(0)
    saved = torch.load(file)  # weights only: torch's safe default
    again.load_state_dict(saved["model"])
    resumed.load_state_dict(saved["optimizer"])
    if name not in OURS:  # torch's do not keep the random state
        torch.set_rng_state(random)
    continued = [float(resumed.step(objective.on(b))) for b in batches[at_step:]]
    return (straight, model.state_dict()), (continued, again.state_dict())


@every
@pytest.mark.parametrize(("dtype", "at"), [(torch.float32, 4), (F64, 3), (torch.bfloat16, 4)], ids=str)
def test_state_continues_bit_for_bit(name, dtype, at):
    """Random state, damping, momentum, curvature, last steps and pairs; dropout and BatchNorm in the model."""
    assert_same_run(*interrupted(name, dropout_net, dtype, at, stream((4,), 8, n=16)))


@every
def test_state_continues_before_a_layer_was_ever_used(name):
    used = [False, False, True, False, True]
    assert_same_run(*interrupted(name, Sometimes, F64, 2, steered(used)))


@ours
def test_state_is_a_snapshot_that_loading_does_not_share(name):
    model, objective, optimizer = started(name)
    batches = stream((4,), 4)
    for batch in batches[:3]:
        optimizer.step(objective.on(batch))
    saved = optimizer.state_dict()
    kept = copy.deepcopy(saved)
    _, elsewhere, other = started(name)
    other.load_state_dict(saved)
    other.step(elsewhere.on(batches[3]))
    assert str(kept) == str(saved)
    assert not torch.equal(flat(model), flat(elsewhere.model))


@every
def test_copies_go_on_as_the_original(name):
    model, objective, optimizer = started(name)
    batches = stream((4,), 3)
    optimizer.step(objective.on(batches[0]))
    twin, other, its = copy.deepcopy((model, optimizer, objective))
    for batch in batches[1:]:
        random = torch.get_rng_state()
        optimizer.step(objective.on(batch))
        torch.set_rng_state(random)
        other.step(its.on(batch))
    assert torch.equal(flat(model), flat(twin))


@ours
def test_the_state_of_another_kind_is_refused(name):
    model, _, optimizer = started(name)
    with pytest.raises(ValueError, match="Expected a state of"):
        optimizer.load_state_dict(torch.optim.SGD(model.parameters(), lr=0.1).state_dict())


# ── mixed precision ──────────────────────────────────────────────────────────────────────────────────────────────────


class Mixed(nn.Module):
    """A model that autocasts itself and gives its outputs in float32."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, x):
        with torch.autocast("cpu", torch.bfloat16):
            return self.model(x).float()


@every
def test_autocast_is_for_the_model_and_the_step_stays_in_full_precision(name):
    """Steps within autocast are those without it of a model that autocasts itself, bit for bit."""
    runs = []
    for outside in (True, False):
        torch.manual_seed(0)
        model = seeded(dropout_net).float()
        objective = quadric.Objective(model if outside else Mixed(model), nn.CrossEntropyLoss())
        optimizer = METHODS[name](objective)
        losses = []
        for x, t in stream((4,), 2, n=32) * 4:
            with torch.autocast("cpu", torch.bfloat16, enabled=outside):
                losses.append(float(optimizer.step(objective.on((x.float(), t)))))
            assert torch.is_autocast_enabled("cpu") is False
        runs.append((losses, flat(model)))
        assert all(p.dtype == torch.float32 for p in model.parameters())
    assert runs[0][0] == runs[1][0]
    assert torch.equal(runs[0][1], runs[1][1])
    full, objective, optimizer = started(name, dropout_net)
    torch.manual_seed(0)
    optimizer.step(objective.on(stream((4,), 1, n=32)[0]))
    assert not torch.equal(flat(full).float(), runs[0][1])


@pytest.mark.parametrize("name", ["kfac", "ekfac"])
def test_kronecker_factors_account_for_layers_under_autocast(name):
    model = seeded(mlp).float()
    objective = quadric.Objective(model, nn.CrossEntropyLoss())
    optimizer = METHODS[name](objective)
    x, t = stream((4,), 1)[0]
    with torch.autocast("cpu", torch.bfloat16):
        optimizer.step(objective.on((x.float(), t)))
    assert {block.form for block in optimizer.coverage.blocks} == {"kronecker"}


# ── compiled models ──────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture(scope="module")
def compiled():
    """A model that has been compiled and run, as one has that was evaluated before training; and its first weights."""
    model = seeded(mlp)
    made = torch.compile(model, backend="aot_eager")
    made(stream((4,), 1)[0][0]).sum().backward()
    return model, made, copy.deepcopy(model.state_dict())


@every
def test_compiled_models_take_the_steps_of_the_plain_one(name, compiled):
    model, made, weights = compiled
    model.load_state_dict(weights)
    twin, plain, other = started(name)
    objective = quadric.Objective(made, nn.CrossEntropyLoss())
    optimizer = METHODS[name](objective)
    for batch in stream((4,), 3):
        optimizer.step(objective.on(batch))
        other.step(plain.on(batch))
    assert_close(flat(model), flat(twin), 1e-10)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["adam", "curveball", "kfac", "newton-hessian", "sophia", "lbfgs"])
def test_models_compiled_by_inductor_take_the_steps_of_the_plain_one(name):
    model = seeded(mlp)
    objective = quadric.Objective(torch.compile(model), nn.CrossEntropyLoss())
    twin, plain, other = started(name)
    optimizer = METHODS[name](objective)
    for batch in stream((4,), 3):
        optimizer.step(objective.on(batch))
        other.step(plain.on(batch))
    assert_close(flat(model), flat(twin), 1e-8)
