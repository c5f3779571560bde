"""QuadraticStep against its rule written out with dense Gauss–Newton matrices, and its manners."""

import copy
import io

import pytest
import torch
from torch import nn

import quadric
from optim.adaptive_problems import F64, NETWORKS, assert_same, everything, flat, mlp, noisy, seeded, stream
from oracles import assert_close, ggn, gradient
from quadric.optim import Muon, QuadraticStep

WRAPPED = {
    "momentum": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9),
    "adam": lambda p: torch.optim.Adam(p, lr=0.1),
    "adamw": lambda p: torch.optim.AdamW(p, lr=0.1, weight_decay=0.05),
    "muon": lambda p: Muon(p, lr=0.1, weight_decay=0.0),
}
WRAP = pytest.mark.parametrize("wrapped", WRAPPED)


def dense_run(model, loss_fn, batches, make, share=0.1):
    """The rule of the docstring with dense matrices; the sizes and the weights after each step."""
    parameters = list(model.parameters())
    optimizer = make(parameters)
    for group in optimizer.param_groups:
        group["lr"] = 1.0
    a, d, pairs, losses, slopes, out = None, None, [], [], [], []
    for batch in batches:
        g, curvature = gradient(model, loss_fn, batch), ggn(model, loss_fn, batch)
        start = flat(model)
        optimizer.zero_grad()
        value = loss_fn(model(batch[0]), batch[1])
        value.backward()
        losses.append(float(value.detach()))
        if d is not None:
            pairs.append((float(a * d @ curvature @ d + g @ d), float(d @ curvature @ d)))
        optimizer.step()
        d = start - flat(model)
        slopes.append(float(g @ d))

        def mean(values, memory):
            weights = [memory ** (len(values) - 1 - s) for s in range(len(values))]
            return sum(w * v for w, v in zip(weights, values, strict=True)) / sum(weights)

        if a is None:
            a = slopes[0] / float(d @ curvature @ d)
        else:
            target = mean([n for n, _ in pairs], 0.95) / mean([c for _, c in pairs], 0.95)
            a = min(max(target, a / 1.2), 1.2 * a)
        if mean(slopes, 0.9) > 0:
            a = min(a, share * mean(losses, 0.9) / mean(slopes, 0.9))
        torch.nn.utils.vector_to_parameters(start - a * d, parameters)
        out.append((a, flat(model)))
    return out


@WRAP
@pytest.mark.parametrize("network", NETWORKS)
def test_the_rule(wrapped, network):
    make, shape = NETWORKS[network]
    model, loss_fn, batches = seeded(make), nn.CrossEntropyLoss(), stream(shape, 12)
    twin = copy.deepcopy(model)
    objective = quadric.Objective(model, loss_fn)
    optimizer = QuadraticStep(WRAPPED[wrapped](model.parameters()), objective)
    want = dense_run(twin, loss_fn, batches, WRAPPED[wrapped])
    for t, batch in enumerate(batches):
        optimizer.step(objective.on(batch))
        assert optimizer.last_step.step_size == pytest.approx(want[t][0], rel=1e-8), f"a at step {t}"
        assert_close(flat(model), want[t][1], 1e-9, f"the weights at step {t}")
    sizes = [a for a, _ in want]
    assert len({round(a, 9) for a in sizes}) > 6


def test_the_wrapped_learning_rate_does_not_matter():
    def run(lr):
        model = seeded(mlp)
        objective = quadric.Objective(model, nn.CrossEntropyLoss())
        optimizer = QuadraticStep(torch.optim.Adam(model.parameters(), lr=lr), objective)
        for batch in stream((4,), 8):
            optimizer.step(objective.on(batch))
        assert optimizer.wrapped.param_groups[0]["lr"] == lr
        return flat(model)

    assert torch.equal(run(1e-3), run(1.0))


def test_rates_count_relative_to_each_other_and_schedulers_multiply():
    model, batch = seeded(mlp), stream((4,), 1)[0]
    objective = quadric.Objective(model, nn.CrossEntropyLoss())
    groups = [
        {"params": model[0].parameters(), "lr": 0.4},
        {"params": model[2].parameters(), "lr": 0.1},
        {"params": model[4].parameters(), "lr": 0.2},
    ]
    before = [p.detach().clone() for p in model.parameters()]
    g = torch.autograd.grad(nn.functional.cross_entropy(model(batch[0]), batch[1]), list(model.parameters()))
    optimizer = QuadraticStep(torch.optim.SGD(groups), objective)
    optimizer.step(objective.on(batch))
    ratios = [float(((b - p) / s).median()) for b, p, s in zip(before, model.parameters(), g, strict=True)]
    assert ratios[2] / ratios[0] == pytest.approx(0.25)
    assert ratios[4] / ratios[0] == pytest.approx(0.5)


@pytest.mark.parametrize("factor", [1e-3, 1e3])
def test_the_scale_of_the_loss_does_not_matter(factor):
    def run(scale):
        model = seeded(mlp)
        objective = quadric.Objective(model, lambda y, t: scale * nn.functional.cross_entropy(y, t))
        optimizer = QuadraticStep(torch.optim.SGD(model.parameters(), momentum=0.9), objective)
        for batch in stream((4,), 8):
            optimizer.step(objective.on(batch))
        return flat(model)

    assert_close(run(factor), run(1.0), 1e-9)


@WRAP
@pytest.mark.parametrize("at", [1, 4])
def test_state_continues_bit_for_bit(wrapped, at):
    batches = stream((4,), 8)

    def start():
        model = seeded(noisy)
        objective = quadric.Objective(model, nn.CrossEntropyLoss())
        return model, objective, QuadraticStep(WRAPPED[wrapped](model.parameters()), objective)

    model, objective, optimizer = start()
    torch.manual_seed(42)
    for batch in batches[:at]:
        optimizer.step(objective.on(batch))
    file = io.BytesIO()
    torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict()}, file)
    straight = [float(optimizer.step(objective.on(b))) for b in batches[at:]]
    torch.manual_seed(7)
    again, objective, resumed = start()
    file.seek(0)
    saved = torch.load(file)
    again.load_state_dict(saved["model"])
    resumed.load_state_dict(saved["optimizer"])
    assert [float(resumed.step(objective.on(b))) for b in batches[at:]] == straight
    assert torch.equal(flat(model), flat(again))


class Fragile(nn.Module):
    factor = 1.0

    def forward(self, y, t):
        return self.factor * nn.functional.mse_loss(y, t)


@pytest.mark.parametrize("factor", [float("nan"), float("inf"), 1e200])
@pytest.mark.parametrize("after", [0, 3])
def test_a_step_that_is_not_finite_is_refused(factor, after):
    model, loss_fn = seeded(noisy), Fragile()
    objective = quadric.Objective(model, loss_fn)
    optimizer = QuadraticStep(torch.optim.Adam(model.parameters()), objective)
    batches = [(x, nn.functional.one_hot(t, 3).double()) for x, t in stream((4,), 5)]
    for batch in batches[:after]:
        optimizer.step(objective.on(batch))
    before, wrapped = everything(model, optimizer), everything(model, optimizer.wrapped)
    size = copy.copy(optimizer.size)
    loss_fn.factor = factor
    with pytest.warns(quadric.StepRejected, match="not finite"):
        optimizer.step(objective.on(batches[3]))
    assert_same(before, everything(model, optimizer))
    assert_same(wrapped, everything(model, optimizer.wrapped))
    assert optimizer.size == size
    loss_fn.factor = 1.0
    optimizer.step(objective.on(batches[4]))
    assert not optimizer.last_step.rejected


class Curved(nn.Module):
    """A loss whose value and gradient are finite at zero residual and whose curvature is not: |y − t|^1.5."""

    def forward(self, y, t):
        return ((y - t).abs() ** 1.5).mean()


def test_a_curvature_that_is_not_finite_is_refused():
    model = nn.Linear(3, 2, bias=False).double()
    x = torch.randn(4, 3, dtype=F64)
    t = model(x).detach() + torch.tensor([[0.0, 0.0], [1.0, 1.0], [0.5, -1.0], [0.3, 0.2]], dtype=F64)
    objective = quadric.Objective(model, Curved())
    optimizer = QuadraticStep(torch.optim.Adam(model.parameters()), objective)
    before, wrapped = everything(model, optimizer), everything(model, optimizer.wrapped)
    with pytest.warns(quadric.StepRejected, match="curvature is not finite"):
        optimizer.step(objective.on((x, t)))
    assert_same(before, everything(model, optimizer))
    assert_same(wrapped, everything(model, optimizer.wrapped))


def test_zero_gradients_at_first_do_not_stop_it_for_good():
    model = nn.Linear(3, 2).double()
    objective = quadric.Objective(model, nn.MSELoss())
    optimizer = QuadraticStep(torch.optim.SGD(model.parameters()), objective)
    x, t = torch.randn(6, 3, dtype=F64), torch.randn(6, 2, dtype=F64)
    with torch.no_grad():
        solved = model(x)
    before = flat(model)
    optimizer.step(objective.on((x, solved)))
    assert torch.equal(flat(model), before)
    losses = [float(optimizer.step(objective.on((x, t)))) for _ in range(60)]
    assert losses[-1] < 0.9 * losses[0]


def test_micro_batches_make_the_step_of_the_whole():
    model, batches = seeded(mlp), stream((4,), 6)
    twin = copy.deepcopy(model)
    whole, parts = quadric.Objective(model, nn.CrossEntropyLoss()), quadric.Objective(twin, nn.CrossEntropyLoss())
    optimizer = QuadraticStep(torch.optim.Adam(model.parameters()), whole)
    other = QuadraticStep(torch.optim.Adam(twin.parameters()), parts)
    for x, t in batches:
        optimizer.step(whole.on((x, t)))
        other.step(parts.on((x[:3], t[:3]), (x[3:], t[3:])))
        assert_close(flat(model), flat(twin), 1e-8)


def test_what_it_wraps():
    model = mlp()
    objective = quadric.Objective(model, nn.CrossEntropyLoss())
    for wrong in (torch.optim.LBFGS(model.parameters()), quadric.optim.CurveBall(objective)):
        with pytest.raises(TypeError, match="wraps a first-order optimiser"):
            QuadraticStep(wrong, objective)
    with pytest.raises(ValueError, match="share"):
        QuadraticStep(torch.optim.Adam(model.parameters()), objective, share=0.0)
    with pytest.raises(ValueError, match="learning rate above 0"):
        QuadraticStep(torch.optim.Adam(model.parameters(), lr=0.0), objective)
    with pytest.raises(ValueError, match="same model"):
        QuadraticStep(torch.optim.Adam(mlp().parameters()), objective)


@WRAP
@pytest.mark.parametrize("size", [8, 128])
def test_it_trains_untouched(wrapped, size):
    digits = pytest.importorskip("sklearn.datasets").load_digits()
    x, t = torch.tensor(digits.data).float().div(16), torch.tensor(digits.target)
    model = seeded(
        lambda: nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Dropout(0.1), nn.Linear(32, 10)), torch.float32
    )
    objective = quadric.Objective(model, nn.CrossEntropyLoss())
    optimizer = QuadraticStep(WRAPPED[wrapped](model.parameters()), objective)
    generator, losses = torch.Generator().manual_seed(1), []
    torch.manual_seed(0)
    for _ in range(160):
        rows = torch.randint(len(x), (size,), generator=generator)
        losses.append(float(optimizer.step(objective.on((x[rows], t[rows])))))
    assert sum(losses[-20:]) / 20 < 0.6 * losses[0]
    assert max(losses) < 2 * losses[0]
