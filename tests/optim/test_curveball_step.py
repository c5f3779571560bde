"""CurveBall against the same steps done with full matrices, and the manners of its steps."""

import copy
import io
import warnings

import pytest
import torch
from torch import nn

import quadric
import zoo
from optim.shared import (
    PROBLEMS,
    Fragile,
    assert_everything_as,
    assert_same_run,
    cnn,
    dropout_net,
    everything,
    flat,
    mlp,
    seeded,
    stream,
)
from oracles import DenseCurveBall, assert_close, select
from quadric.optim import CurveBall

F64 = torch.float64


def field(step, prefix: str):
    """The field of `last_step` whose name starts so (the contract fixes what is reported, not each name)."""
    names = [n for n in dir(step) if n.startswith(prefix) and not callable(getattr(step, n))]
    assert names, f"last_step has nothing like {prefix!r}; it has {[n for n in dir(step) if not n.startswith('_')]}"
    return getattr(step, min(names, key=len))


# ── problems ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def run_both(problem, groups=None, reference=None, steps=None, micro=1, rtol=1e-10, first=None, **options):
    """Step both, comparing weights, coefficients, λ and reductions at every step; returns how λ moved."""
    model, loss_fn, batches = PROBLEMS[problem]()
    twin = copy.deepcopy(model)
    objective = quadric.Objective(model, loss_fn)
    optimizer = CurveBall(groups(model) if groups else objective, **options)
    dense = DenseCurveBall(twin, loss_fn, **(reference or _translate(options)))
    dampings = []
    for i in range(0, steps or len(batches), micro):
        want = dense.step(*batches[i : i + micro])
        got = optimizer.step(objective.on(*batches[i : i + micro]))
        where = f"at step {i // micro}"
        assert_close(flat(model), flat(twin), rtol, f"the weights {where}")
        last = optimizer.last_step
        assert not last.rejected
        assert float(field(last, "loss")) == pytest.approx(float(got), rel=1e-12)
        assert float(field(last, "momentum")) == pytest.approx(want.momentum, rel=1e-7, abs=1e-9), f"ρ {where}"
        assert float(field(last, "step_size")) == pytest.approx(want.step_size, rel=1e-7, abs=1e-12), f"β {where}"
        assert float(field(last, "damping")) in (
            pytest.approx(want.damping, rel=1e-12),
            pytest.approx(dense.damping, rel=1e-12),
        ), f"λ {where}"
        predicted = field(last, "predicted")
        if predicted is not None:
            assert abs(float(predicted)) == pytest.approx(abs(want.predicted), rel=1e-7, abs=1e-13), (
                f"predicted {where}"
            )
        if options.get("adapt_damping", True) and (i // micro) % 5 == 0 and want.damping:
            assert predicted is not None
            assert abs(float(field(last, "actual"))) == pytest.approx(abs(want.actual), rel=1e-6, abs=1e-12), (
                f"actual {where}"
            )
        dampings.append(want.damping)
    for name, buffer in model.named_buffers():
        assert_close(buffer.double(), dict(twin.named_buffers())[name].double(), 1e-10, name)
    return dampings


def _translate(options):
    known = {"adapt_damping": "adapt"}
    return {known.get(k, k): v for k, v in options.items()}


# ── the same steps with full matrices ────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("damping", [1.0, 10.0, 0.1])
@pytest.mark.parametrize("problem", ["mlp", "mlp-squared-error", "cnn-batch-norm"])
def test_the_paper_s_rule(problem, damping):
    run_both(problem, damping=damping)


@pytest.mark.parametrize("problem", ["rosenbrock", "rosenbrock-noise"])
@pytest.mark.parametrize(
    "options", [{"damping": 1.0}, {"damping": 0.1, "lr": 0.5, "adapt_damping": False}], ids=["default", "authors"]
)
def test_the_paper_s_rule_on_rosenbrock(problem, options):
    run_both(problem, steps=10, **options)


def test_damping_moves_both_ways_in_these_tests():
    """λ falls and rises somewhere above, else the adaptation would not be tested."""
    falls = [run_both("mlp", damping=10.0), run_both("mlp", damping=1.0)]
    assert all(d[-1] < d[0] for d in falls)
    rises = run_both("mlp", damping=0.1, steps=14)
    assert rises[-1] > rises[0]


@pytest.mark.parametrize("problem", ["mlp", "cnn-batch-norm"])
@pytest.mark.parametrize(
    "options",
    [
        pytest.param({"momentum": 0.9, "step_size": 0.05}, id="both-fixed"),
        pytest.param({"momentum": 0.8}, id="momentum-fixed"),
        pytest.param({"step_size": 0.05}, id="step-size-fixed"),
    ],
)
def test_fixed_coefficients(problem, options):
    run_both(problem, damping=1.0, **options)


@pytest.mark.parametrize("adapt", [True, False])
def test_without_adaptation_damping_stays(adapt):
    dampings = run_both("mlp", damping=10.0, adapt_damping=adapt)
    assert (len(set(dampings)) > 1) == adapt


@pytest.mark.parametrize("problem", ["mlp", "cnn-batch-norm"])
def test_weight_decay_is_part_of_the_model(problem):
    run_both(problem, damping=1.0, weight_decay=0.1)


def test_weight_decay_with_fixed_coefficients():
    run_both("mlp", damping=1.0, weight_decay=0.1, momentum=0.9, step_size=0.05)


@pytest.mark.parametrize("lr", [0.5, 0.1, 1.3])
def test_learning_rate(lr):
    run_both("mlp", damping=1.0, lr=lr)


def test_learning_rate_weight_decay_and_batch_norm_together():
    run_both("cnn-batch-norm", damping=1.0, lr=0.5, weight_decay=0.05)


@pytest.mark.parametrize("micro", [2, 3])
@pytest.mark.parametrize("problem", ["mlp", "cnn-batch-norm"])
def test_micro_batches(problem, micro):
    run_both(problem, steps=12, micro=micro, damping=1.0)


def test_uneven_micro_batches_with_class_weights_and_ignored_targets():
    case = zoo.CASES["loss/cross-entropy-all"]
    (model, loss_fn), batches = case.build(), case.batches(4, 1, 3)
    twin, _ = case.build()
    objective = quadric.Objective(model, loss_fn)
    optimizer, dense = CurveBall(objective, damping=1.0), DenseCurveBall(twin, loss_fn, damping=1.0)
    for _ in range(10):
        value = optimizer.step(objective.on(*batches))
        assert float(value) == pytest.approx(dense.step(*batches).loss, rel=1e-11)
        assert_close(flat(model), flat(twin))


GROUP_LR = {"0": 0.5, "2": 1.0, "4": 0.2}
GROUP_DECAY = {"0": 0.1, "2": 0.0, "4": 0.01}


@pytest.mark.parametrize("order", ["024", "402"], ids=["in-order", "shuffled"])
@pytest.mark.parametrize("options", [{}, {"momentum": 0.9, "step_size": 0.05}], ids=["automatic", "fixed"])
def test_groups_share_one_model(order, options):
    """η and ω per group; ρ and β from the joint model; the prediction for the step actually taken."""

    def groups(model):
        return [
            {"params": model[int(i)].parameters(), "lr": GROUP_LR[i], "weight_decay": GROUP_DECAY[i]} for i in order
        ]

    reference = {"lr": lambda n: GROUP_LR[n[0]], "weight_decay": lambda n: GROUP_DECAY[n[0]], "damping": 1.0, **options}
    run_both("mlp", groups=groups, reference=reference, damping=1.0, **options)


def test_parameters_instead_of_an_objective():
    run_both("mlp", groups=lambda m: list(m.parameters()), damping=1.0)
    run_both("mlp", groups=lambda m: m.parameters(), damping=1.0)


def test_schedulers_drive_the_learning_rate():
    model, loss_fn, batches = PROBLEMS["mlp"]()
    twin = copy.deepcopy(model)
    objective = quadric.Objective(model, loss_fn)
    optimizer, dense = CurveBall(objective, damping=1.0), DenseCurveBall(twin, loss_fn, damping=1.0)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 3, 0.5)
    for i, batch in enumerate(batches):
        dense.lr = torch.full_like(dense.lr, 0.5 ** (i // 3))
        dense.step(batch)
        optimizer.step(objective.on(batch))
        scheduler.step()
        assert_close(flat(model), flat(twin))


# ── curvature switched off (S2.8) ────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("problem", ["mlp", "cnn-batch-norm"])
def test_without_curvature_it_is_heavy_ball(problem):
    """z ← ρz − βg, w ← w + z, which is torch's SGD with lr = β and the same momentum."""
    model, loss_fn, batches = PROBLEMS[problem]()
    twin, third = copy.deepcopy(model), copy.deepcopy(model)
    objective = quadric.Objective(model, loss_fn)
    optimizer = CurveBall(objective, curvature=None, damping=0.0, momentum=0.9, step_size=0.05)
    sgd = torch.optim.SGD(twin.parameters(), lr=0.05, momentum=0.9)
    z = [torch.zeros_like(p) for p in third.parameters()]
    for x, t in batches:
        got = optimizer.step(objective.on((x, t)))
        sgd.zero_grad()
        want = loss_fn(twin(x), t)
        want.backward()
        sgd.step()
        grads = torch.autograd.grad(loss_fn(third(x), t), list(third.parameters()))
        with torch.no_grad():
            for p, b, g in zip(third.parameters(), z, grads, strict=True):
                b.mul_(0.9).sub_(0.05 * g)
                p.add_(b)
        assert float(got) == pytest.approx(want.item(), rel=1e-12)
        assert_close(flat(model), flat(third), 1e-12)
        assert_close(flat(model), flat(twin), 1e-12)
    for name, buffer in model.named_buffers():
        assert_close(buffer.double(), dict(third.named_buffers())[name].double(), 1e-12, name)


def test_without_curvature_weight_decay_and_learning_rate_stay():
    model, loss_fn, batches = PROBLEMS["mlp"]()
    twin = copy.deepcopy(model)
    objective = quadric.Objective(model, loss_fn)
    options = {"momentum": 0.9, "step_size": 0.05, "weight_decay": 0.1, "lr": 0.5}
    optimizer = CurveBall(objective, curvature=None, damping=0.0, **options)
    z = [torch.zeros_like(p) for p in twin.parameters()]
    for x, t in batches:
        optimizer.step(objective.on((x, t)))
        grads = torch.autograd.grad(loss_fn(twin(x), t), list(twin.parameters()))
        with torch.no_grad():
            for p, b, g in zip(twin.parameters(), z, grads, strict=True):
                b.mul_(0.9).sub_(0.05 * (g + 0.1 * p))
                p.add_(0.5 * b)
        assert_close(flat(model), flat(twin), 1e-12)


# ── frozen and unused parameters ─────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("given", ["objective", "parameters", "groups"])
def test_frozen_parameters_stay(given):
    model, loss_fn, batches = PROBLEMS["mlp"]()
    model[2].requires_grad_(False)
    twin, kept = copy.deepcopy(model), {n: p.clone() for n, p in model[2].named_parameters()}
    objective = quadric.Objective(model, loss_fn)
    chosen = {
        "objective": lambda: objective,
        "parameters": lambda: list(model.parameters()),
        "groups": lambda: [{"params": m.parameters()} for m in (model[0], model[2], model[4])],
    }[given]()
    optimizer, dense = CurveBall(chosen, damping=1.0), DenseCurveBall(twin, loss_fn, damping=1.0)
    for batch in batches[:10]:
        optimizer.step(objective.on(batch))
        dense.step(batch)
        assert_close(flat(model), flat(twin))
    assert all(torch.equal(p, kept[n]) for n, p in model[2].named_parameters())


def test_a_subset_of_the_parameters():
    model, loss_fn, batches = PROBLEMS["mlp"]()
    twin = copy.deepcopy(model)
    twin[0].requires_grad_(False)
    objective = quadric.Objective(model, loss_fn, params=["2.*", "4.*"])
    optimizer, dense = CurveBall(objective, damping=1.0), DenseCurveBall(twin, loss_fn, damping=1.0)
    for batch in batches[:10]:
        optimizer.step(objective.on(batch))
        dense.step(batch)
        assert_close(flat(model), flat(twin))


def test_unused_parameters_stay_or_decay():
    for decay in (0.0, 0.1):
        case = zoo.CASES["dense/unused-parameters"]
        (model, loss_fn), batch = case.build(), case.batch(6)
        twin, kept = copy.deepcopy(model), model.idle.weight.detach().clone()
        objective = quadric.Objective(model, loss_fn)
        optimizer = CurveBall(objective, damping=1.0, weight_decay=decay)
        dense = DenseCurveBall(twin, loss_fn, damping=1.0, weight_decay=decay)
        for _ in range(6):
            optimizer.step(objective.on(batch))
            dense.step(batch)
            assert_close(flat(model), flat(twin))
        assert torch.equal(model.idle.weight, kept) == (decay == 0)


def test_tied_weights():
    case = zoo.CASES["net/tied-embedding"]
    (model, loss_fn), batch = case.build(), case.batch(6)
    twin = copy.deepcopy(model)
    objective = quadric.Objective(model, loss_fn)
    optimizer, dense = CurveBall(objective, damping=1.0), DenseCurveBall(twin, loss_fn, damping=1.0)
    for _ in range(10):
        optimizer.step(objective.on(batch))
        dense.step(batch)
        assert_close(flat(model), flat(twin))


# ── the manners of a step ────────────────────────────────────────────────────────────────────────────────────────────


def test_it_is_a_torch_optimizer():
    model, loss_fn, batches = PROBLEMS["mlp"]()
    objective = quadric.Objective(model, loss_fn)
    optimizer = CurveBall(objective)
    assert isinstance(optimizer, torch.optim.Optimizer)
    assert optimizer.param_groups[0]["lr"] == 1.0
    value = optimizer.step(objective.on(batches[0]))
    assert isinstance(value, torch.Tensor)
    assert value.shape == ()
    assert not value.requires_grad or value.grad_fn is None
    assert all(p.grad is None for p in model.parameters())
    buffers = [v for s in optimizer.state.values() for v in s.values() if isinstance(v, torch.Tensor) and v.numel() > 1]
    assert sum(b.numel() for b in buffers) == flat(model).numel(), "the state is one buffer per parameter"
    repr(optimizer)
    optimizer.zero_grad()


def test_last_step_reports():
    model, loss_fn, batches = PROBLEMS["mlp"]()
    objective = quadric.Objective(model, loss_fn)
    optimizer = CurveBall(objective, damping=1.0)
    for batch in batches[:2]:
        optimizer.step(objective.on(batch))
        last = optimizer.last_step
        for name in ("loss", "damping", "momentum", "step_size", "products"):
            assert float(field(last, name)) == float(field(last, name)), f"{name} is NaN"
        assert last.rejected is False
        assert field(last, "products") > 0


def test_batch_norm_is_counted_once_a_step():
    model, loss_fn, batches = PROBLEMS["cnn-batch-norm"]()
    objective = quadric.Objective(model, loss_fn)
    for options in ({}, {"damping": 1.0}):
        model[1].num_batches_tracked.zero_()
        optimizer = CurveBall(objective, **options)
        for i, batch in enumerate(batches[:7]):
            optimizer.step(objective.on(batch))
            assert model[1].num_batches_tracked == i + 1


def test_dropout_draws_once_a_step():
    """The λ check replays the step's random numbers: the global state moves as for one plain forward."""
    model = nn.Sequential(nn.Linear(4, 6), nn.Dropout(0.5), nn.Tanh(), nn.Linear(6, 3)).double()
    objective, batch = quadric.Objective(model, nn.CrossEntropyLoss()), stream((4,), 1)[0]
    for options in ({}, {"damping": 1.0}):
        optimizer = CurveBall(objective, **options)
        for _ in range(6):
            torch.manual_seed(8)
            model(batch[0])
            after_one = torch.get_rng_state()
            torch.manual_seed(8)
            optimizer.step(objective.on(batch))
            assert torch.equal(torch.get_rng_state(), after_one)


def train(options, dtype, examples, seed=20):
    model = seeded(mlp).to(dtype)
    objective = quadric.Objective(model, nn.CrossEntropyLoss())
    optimizer = CurveBall(objective, **options)
    batches = stream((4,), 200, n=examples, seed=seed)
    return [float(optimizer.step(objective.on((x.to(dtype), t)))) for x, t in batches]


@pytest.mark.parametrize("dtype", [torch.float32, F64], ids=str)
@pytest.mark.parametrize("options", [{}, {"damping": 1.0}], ids=["default", "paper"])
def test_it_trains(options, dtype):
    losses = train(options, dtype, examples=32)
    assert sum(losses[-20:]) < 0.6 * sum(losses[:20])


@pytest.mark.parametrize("seed", [20, 21])
@pytest.mark.parametrize("options", [{}, {"damping": 1.0}], ids=["default", "paper"])
def test_it_does_not_diverge_on_small_batches(options, seed):
    """Eight examples and 83 weights: the model of a batch is nearly singular, and the next batch is another."""
    losses = train(options, F64, examples=8, seed=seed)
    assert sum(losses[-50:]) < 50 * losses[0]


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"lr": -1.0}, r"lr|learning rate"),
        ({"damping": -1.0}, "damping"),
        ({"momentum": -0.1}, "momentum"),
        ({"step_size": -0.1}, "step_size|step size"),
        ({"weight_decay": -0.1}, "weight_decay|weight decay"),
        ({"damping": float("nan")}, "damping"),
    ],
    ids=lambda v: str(v) if isinstance(v, dict) else "",
)
def test_bad_hyper_parameters(options, told):
    objective = quadric.Objective(seeded(mlp), nn.CrossEntropyLoss())
    with pytest.raises(ValueError, match=told):
        CurveBall(objective, **options)


def test_a_closure_of_another_objective_is_refused():
    model, loss_fn, batches = PROBLEMS["mlp"]()
    other = quadric.Objective(seeded(mlp), loss_fn)
    optimizer = CurveBall(quadric.Objective(model, loss_fn))
    with pytest.raises((ValueError, RuntimeError), match=r"(?i)objective|parameter"):
        optimizer.step(other.on(batches[0]))


# ── state ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def interrupted(options, dtype, at, restore_random_state):
    """Losses and final states of a run and of its continuation from a file, begun `at` steps in."""
    batches = [(x.to(dtype), t) for x, t in stream((4,), 12)]

    def start():
        model = seeded(dropout_net).to(dtype)
        objective = quadric.Objective(model, nn.CrossEntropyLoss())
        return model, objective, CurveBall(objective, **options)

    model, objective, optimizer = start()
    torch.manual_seed(42)
    for batch in batches[:at]:
        optimizer.step(objective.on(batch))
    file, random = io.BytesIO(), torch.get_rng_state()
    torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict()}, file)
    straight = [float(optimizer.step(objective.on(b))) for b in batches[at:]]

    torch.manual_seed(7)  # another process would be anywhere
    again, objective, optimizer = start()
    file.seek(0)
    saved = torch.load(file)  # weights only: torch's safe default
    again.load_state_dict(saved["model"])
    optimizer.load_state_dict(saved["optimizer"])
    if restore_random_state:
        torch.set_rng_state(random)
    resumed = [float(optimizer.step(objective.on(b))) for b in batches[at:]]
    return (straight, model.state_dict()), (resumed, again.state_dict())


SETTINGS = {"default": {}, "paper": {"damping": 1.0}, "fixed": {"momentum": 0.9, "step_size": 0.01, "damping": 1.0}}


@pytest.mark.parametrize("dtype", [torch.float32, F64], ids=str)
@pytest.mark.parametrize("options", SETTINGS)
@pytest.mark.parametrize("at", [4, 5, 6])
def test_state_continues_bit_for_bit(options, dtype, at):
    assert_same_run(*interrupted(SETTINGS[options], dtype, at, restore_random_state=True))


@pytest.mark.parametrize("options", SETTINGS)
def test_state_continues_bit_for_bit_in_bfloat16(options):
    """`Optimizer.load_state_dict` would cast λ and what else is kept in float64."""
    assert_same_run(*interrupted(SETTINGS[options], torch.bfloat16, 5, restore_random_state=True))


@pytest.mark.parametrize("options", SETTINGS)
def test_state_holds_the_random_state(options):
    """Dropout continues as well, with nothing restored but the model and the optimiser."""
    assert_same_run(*interrupted(SETTINGS[options], F64, 5, restore_random_state=False))


def test_state_dict_is_a_snapshot_that_loading_does_not_share():
    model, loss_fn, batches = PROBLEMS["mlp"]()
    objective = quadric.Objective(model, loss_fn)
    optimizer = CurveBall(objective)
    optimizer.step(objective.on(batches[0]))
    saved = copy.deepcopy(optimizer.state_dict())
    other = CurveBall(objective)
    other.load_state_dict(saved)
    kept = copy.deepcopy(saved)
    other.step(objective.on(batches[1]))
    for key, entry in kept["state"].items():
        for name, value in entry.items():
            if isinstance(value, torch.Tensor):
                assert torch.equal(value, saved["state"][key][name])


# ── refused steps ────────────────────────────────────────────────────────────────────────────────────────────────────


class Curved(nn.Module):
    """A loss whose value and gradient are finite at zero residual and whose curvature is not: |y − t|^1.5."""

    def forward(self, y, t):
        return ((y - t).abs() ** 1.5).mean()


def fragile(options):
    model = seeded(cnn)
    loss_fn = Fragile()
    objective = quadric.Objective(model, loss_fn)
    batches = [(x, nn.functional.one_hot(t, 3).double()) for x, t in stream((1, 5, 5), 4)]
    return model, loss_fn, objective, batches, CurveBall(objective, **options)


OPTIONS = pytest.mark.parametrize("options", [{}, {"damping": 1.0}], ids=["default", "paper"])


@OPTIONS
@pytest.mark.parametrize("factor", [float("nan"), float("inf"), 1e308], ids=["nan", "inf", "overflowing-curvature"])
@pytest.mark.parametrize("after", [0, 3])
def test_a_step_that_is_not_finite_is_refused(options, factor, after):
    model, loss_fn, objective, batches, optimizer = fragile(options)
    for batch in batches[:after]:
        optimizer.step(objective.on(batch))
    before = everything(model, optimizer)
    damping = float(field(optimizer.last_step, "damping")) if after else None
    loss_fn.factor = factor
    with pytest.warns(quadric.StepRejected, match=r"(?i)finite|nan|inf"):
        value = optimizer.step(objective.on(batches[3]))
    assert optimizer.last_step.rejected is True
    assert isinstance(value, torch.Tensor)
    assert_everything_as(before, model, optimizer)
    assert all(p.grad is None for p in model.parameters())
    loss_fn.factor = 1.0
    optimizer.step(objective.on(batches[0]))
    assert optimizer.last_step.rejected is False
    assert not torch.equal(model.state_dict()["0.weight"], before[0]["0.weight"])
    if damping is not None:
        assert float(field(optimizer.last_step, "damping")) > 0.99 * damping


@OPTIONS
def test_a_curvature_that_is_not_finite_is_refused(options):
    model = nn.Linear(3, 2, bias=False).double()
    x = torch.randn(4, 3, dtype=F64)
    t = model(x).detach() + torch.tensor([[0.0, 0.0], [1.0, 1.0], [0.5, -1.0], [0.3, 0.2]], dtype=F64)
    objective = quadric.Objective(model, Curved())
    optimizer = CurveBall(objective, **options)
    before = flat(model)
    # the first step starts from z = 0; the curvature enters through its direction
    with pytest.warns(quadric.StepRejected, match=r"(?i)finite|nan|inf"):
        optimizer.step(objective.on((x, t)))
    assert torch.equal(flat(model), before)
    assert optimizer.last_step.rejected


def test_damping_rises_when_a_step_is_refused():
    _, loss_fn, objective, batches, optimizer = fragile({"damping": 1.0, "adapt_damping": True})
    for batch in batches[:2]:
        optimizer.step(objective.on(batch))
    usual = float(field(optimizer.last_step, "damping"))
    loss_fn.factor = float("nan")
    for _ in range(3):
        with pytest.warns(quadric.StepRejected):
            optimizer.step(objective.on(batches[2]))
    loss_fn.factor = 1.0
    optimizer.step(objective.on(batches[3]))
    assert float(field(optimizer.last_step, "damping")) > usual


@OPTIONS
def test_ten_refusals_in_a_row_raise(options):
    model, loss_fn, objective, batches, optimizer = fragile(options)
    before = everything(model, optimizer)

    def spoilt(times):
        loss_fn.factor = float("nan")
        for _ in range(times):
            with pytest.warns(quadric.StepRejected):
                optimizer.step(objective.on(batches[0]))
        loss_fn.factor = 1.0

    spoilt(9)
    assert_everything_as(before, model, optimizer)
    optimizer.step(objective.on(batches[0]))  # a good one starts the count anew
    spoilt(9)
    before = everything(model, optimizer)
    loss_fn.factor = float("nan")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", quadric.StepRejected)
        with pytest.raises((RuntimeError, ArithmeticError), match=r"(?i)ten|10|row"):
            optimizer.step(objective.on(batches[0]))
    assert_everything_as(before, model, optimizer)


def test_an_error_inside_the_model_changes_nothing():
    model, loss_fn, batches = PROBLEMS["mlp"]()
    objective = quadric.Objective(model, loss_fn)
    optimizer = CurveBall(objective)
    optimizer.step(objective.on(batches[0]))
    before = everything(model, optimizer)
    with pytest.raises((ValueError, RuntimeError), match=r"(?i)shape|size|multiplied|features"):
        optimizer.step(objective.on((torch.randn(8, 5, dtype=F64), batches[0][1])))
    assert_everything_as(before, model, optimizer)
    optimizer.step(objective.on(batches[1]))


def test_select_is_the_model_s_order():
    """What the comparisons of flat weights rest on."""
    model = seeded(mlp)
    assert list(select(model)) == [n for n, _ in model.named_parameters()]
