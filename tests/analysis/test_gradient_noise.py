"""The gradient noise scale against plain loops, and against a problem whose noise is known."""

import math

import pytest
import torch
from torch import nn

from quadric import Objective
from quadric.analysis import GradientNoise, gradient_noise

F64 = torch.float64


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(5, 6), nn.Tanh(), nn.Linear(6, 3)).to(F64)


def batch(examples, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return (
        torch.randn(examples, 5, dtype=F64, generator=generator),
        torch.randint(0, 3, (examples,), generator=generator),
    )


def by_loops(model, loss_fn, parts):
    """tr Σ and ‖∇f‖² from parts of the same size, as the docstring defines them."""
    gradients = []
    for x, t in parts:
        gradients.append(
            torch.cat([g.flatten() for g in torch.autograd.grad(loss_fn(model(x), t), model.parameters())])
        )
    g, size = torch.stack(gradients), len(parts[0][1])
    mean = g.mean(0)
    spread = size * float((g - mean).square().sum()) / (len(parts) - 1)
    return spread, float(mean.square().sum()) - spread / (size * len(parts))


def noise_of(objective, *data):
    return gradient_noise(objective, [objective.batch(b) for b in data])


@pytest.mark.parametrize("examples", [8, 24])
def test_it_is_what_plain_loops_give(examples):
    model, (x, t) = network(), batch(examples)
    got = noise_of(Objective(model, nn.CrossEntropyLoss()), (x, t))
    count = min(8, examples // 2)
    want = by_loops(model, nn.CrossEntropyLoss(), list(zip(x.chunk(count), t.chunk(count), strict=True)))
    assert (got.spread, got.signal) == (pytest.approx(want[0]), pytest.approx(want[1]))
    assert got.scale == pytest.approx(want[0] / want[1]) or (want[1] <= 0 and got.scale == math.inf)


def test_parts_of_unequal_size_are_weighed():
    """With per-example gradients drawn from N(μ, I), parts of 2 to 3 examples say d and ‖μ‖² on average."""
    mu = torch.tensor([1.0, -2.0, 0.5], dtype=F64)
    x = nn.Parameter(torch.zeros(3, dtype=F64))

    class Linear(nn.Module):
        def __init__(self):
            super().__init__()
            self.x = x

        def forward(self, c):
            return c @ self.x

    objective = Objective(Linear(), lambda y, t: y.mean())
    generator = torch.Generator().manual_seed(0)
    found = []
    for _ in range(800):
        c = mu + torch.randn(13, 3, dtype=F64, generator=generator)
        found.append(noise_of(objective, (c, torch.zeros(13))))
    for name, truth in (("spread", 3.0), ("signal", float(mu.square().sum()))):
        values = torch.tensor([getattr(f, name) for f in found], dtype=F64)
        assert abs(float(values.mean()) - truth) <= 4 * float(values.std()) / len(found) ** 0.5
        squared = torch.tensor([getattr(f, f"{name}_error") ** 2 for f in found], dtype=F64)
        # the jackknife errs on the safe side (Efron and Stein 1981)
        assert 0.95 <= float(squared.mean()) / float(values.var()) <= 1.5
    held = [abs(f.scale - 3 / 5.25) <= 2 * f.scale_error for f in found]
    assert sum(held) / len(held) > 0.85


def test_micro_batches_are_parts_and_count_by_their_normaliser():
    model = network()
    objective = Objective(model, nn.CrossEntropyLoss())
    x, t = batch(24)
    together, apart = noise_of(objective, (x, t)), noise_of(objective, (x[:12], t[:12]), (x[12:], t[12:]))
    assert apart.spread == pytest.approx(together.spread)
    ignored = t.clone()
    ignored[:3] = -100
    less = noise_of(objective, (x, ignored))
    want = by_loops(model, nn.CrossEntropyLoss(), list(zip(x[3:].chunk(7), t[3:].chunk(7), strict=True)))
    # B is the 24 examples of the step, 7 parts of 24/7 each counting
    assert less.spread == pytest.approx(want[0] * 8 / 7)


def test_a_signal_lost_in_the_noise_has_no_finite_scale():
    model = network()
    x, _ = batch(16)
    objective = Objective(model, nn.MSELoss())
    y = model(x).detach()
    got = noise_of(objective, (x, y + torch.randn(16, 3, dtype=F64, generator=torch.Generator().manual_seed(1))))
    assert got.signal < 0
    assert got.scale == got.scale_error == math.inf


@pytest.mark.parametrize("examples", [1, 7])
def test_few_examples_say_nothing(examples):
    assert noise_of(Objective(network(), nn.CrossEntropyLoss()), batch(examples)) is None
    ignored = torch.full((16,), -100)
    assert noise_of(Objective(network(), nn.CrossEntropyLoss()), (batch(16)[0], ignored)) is None


def test_examples_elsewhere_are_refused_and_nothing_is_touched():
    objective = Objective(network(), lambda y, t: y.mean())
    with pytest.raises(ValueError, match="A share of this batch can't be taken"):
        noise_of(objective, (torch.randn(3, 5, dtype=F64), torch.zeros(16)))
    objective = Objective(nn.Sequential(nn.Linear(5, 3), nn.Dropout()).to(F64), nn.CrossEntropyLoss())
    state = torch.get_rng_state()
    noise_of(objective, batch(16))
    assert torch.equal(torch.get_rng_state(), state)


def test_it_comes_back_from_a_file(tmp_path):
    got = noise_of(Objective(network(), nn.CrossEntropyLoss()), batch(24))
    assert GradientNoise.load(got.save(tmp_path / "noise.npz")) == got


def test_many_micro_batches_are_put_together_into_eight_parts():
    objective, (x, t) = Objective(network(), nn.CrossEntropyLoss()), batch(64)
    small, large = (list(zip(x.split(size), t.split(size), strict=True)) for size in (4, 8))
    few, many = noise_of(objective, *large), noise_of(objective, *small)
    assert (many.spread, many.spread_error) == pytest.approx((few.spread, few.spread_error))
    assert (many.signal, many.signal_error) == pytest.approx((few.signal, few.signal_error))
