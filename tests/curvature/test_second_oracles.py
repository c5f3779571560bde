"""Fisher matrices and Kronecker factors against a second dense route, and examples that count differently."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import quadric
import zoo
from oracles import assert_close, ggn, gradient, hessian
from oracles.factors import place_gradients, row_by_row

F64 = torch.float64


def layers_of(name):
    """(network, layer, patches of its input, what comes after it) of small networks."""
    torch.manual_seed(0)
    if name == "mlp":
        net = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3)).double()
        x = torch.randn(6, 4, dtype=F64)
        return net, x, [(0, x[:, None], lambda o: net[1:](o[:, 0])), (2, net[:2](x)[:, None], lambda o: o[:, 0])]
    if name == "tokens":
        net = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Flatten(), nn.Linear(20, 3)).double()
        x = torch.randn(6, 5, 3, dtype=F64)
        return net, x, [(0, x, lambda o: net[1:](o))]
    net = nn.Sequential(nn.Conv2d(2, 3, (2, 3), stride=(1, 2), padding=1), nn.Tanh(), nn.Flatten(), nn.LazyLinear(3))
    net = net.double()
    x = torch.randn(6, 2, 4, 5, dtype=F64)
    shape = net[0].double()(x).shape
    net(x)
    patches = F.unfold(x, (2, 3), padding=1, stride=(1, 2)).transpose(1, 2)
    return net.double(), x, [(0, patches, lambda o: net[1:](o.transpose(1, 2).reshape(1, *shape[1:])))]


LOSSES = {
    "cross-entropy": (nn.CrossEntropyLoss(), torch.tensor([0, 1, 2, 2, 0, 1])),
    "weighted": (
        nn.CrossEntropyLoss(weight=torch.tensor([0.5, 2.0, 1.0], dtype=F64), label_smoothing=0.1),
        torch.tensor([0, 1, -100, 2, 0, 1]),
    ),
    "squared": (nn.MSELoss(), torch.linspace(-1, 1, 18, dtype=F64).view(6, 3)),
}


def shares_of(loss_fn, t):
    """D_n / Σ D_n."""
    if isinstance(loss_fn, nn.MSELoss):
        return torch.full((len(t),), 1 / len(t), dtype=F64)
    counted = t != loss_fn.ignore_index
    weight = torch.ones(3, dtype=F64) if loss_fn.weight is None else loss_fn.weight
    counts = weight[t.where(counted, torch.zeros_like(t))] * counted
    return counts / counts.sum()


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("name", ["mlp", "tokens", "convolution"])
def test_kronecker_factors_and_their_correction(name, loss):
    net, x, layers = layers_of(name)
    loss_fn, t = LOSSES[loss]
    objective = quadric.Objective(net, loss_fn)
    shares = shares_of(loss_fn, t)

    def alone(y, n):
        return loss_fn(y, t[n : n + 1]) if shares[n] > 0 else 0 * y.square().sum()

    kfac, ekfac = quadric.KFAC(objective, (x, t)), quadric.EKFAC(objective, (x, t))
    for index, (layer, patches, after) in enumerate(layers):
        found = place_gradients(patches, net[layer], after, alone)
        b, a = found.factors(shares)
        out = b.shape[0]
        block = quadric.sub_matrix(kfac, [f"{layer}.weight", f"{layer}.bias"]).to_dense()
        assert_close(row_by_row(block, out), torch.kron(b, a))
        assert_close(kfac.blocks[index].left.to_dense(), b)
        assert_close(kfac.blocks[index].right.to_dense(), a)
        block = quadric.sub_matrix(ekfac, [f"{layer}.weight", f"{layer}.bias"]).to_dense()
        assert_close(row_by_row(block, out), found.corrected(shares), 1e-8)


@pytest.mark.parametrize("name", ["mlp", "convolution"])
def test_the_moment_of_gradients_is_the_ggn_of_the_bias_where_it_acts_once(name):
    """A route without any activation: ∂y/∂b of a dense layer is ∂y/∂o."""
    net, x, _ = layers_of(name)
    last = len(net) - 1
    loss_fn, t = LOSSES["weighted"]
    objective = quadric.Objective(net, loss_fn)
    want = ggn(net, loss_fn, (x, t), f"{last}.bias")
    assert_close(quadric.KFAC(objective, (x, t)).blocks[-1].left.to_dense(), want)


@pytest.mark.parametrize(
    "name", ["loss/cross-entropy-plain", "loss/cross-entropy-weights", "net/tied-embedding", "loss/mse"]
)
def test_monte_carlo_fisher_by_gradients_at_the_drawn_targets(name):
    """F = Σ_n w_n g_n g_nᵀ with g_n the gradient by plain reverse mode at the target that was drawn for example n."""
    case = zoo.CASES[name]
    (model, loss_fn), (x, t) = case.build(), case.batch(4)
    objective = quadric.Objective(model, loss_fn)
    operator = quadric.Fisher(objective, (x, t), seed=2)
    local, _ = operator._current(once=False)
    (slope,) = local.slopes
    y = model(x).detach()
    if isinstance(loss_fn, nn.MSELoss):
        # s = √(2/m) ε = 2 (y − t̃)/√m, and the gradient of an example's own mean of k elements is 2 (y − t̃)/k
        drawn, scale = y - slope * y.numel() ** 0.5 / 2, (y[0].numel() / y.shape[0]) ** 0.5
        total = torch.zeros(operator.shape, dtype=F64)
        for n in range(4):
            g = scale * gradient(model, loss_fn, (x[n : n + 1], drawn[n : n + 1]))
            total += torch.outer(g, g)
        assert_close(operator.to_dense(), total)
        return
    drawn = slope.argmin(1)  # the class from which one was taken
    positions = drawn.numel()
    weight = torch.ones(y.shape[1], dtype=F64) if loss_fn.weight is None else loss_fn.weight
    counted = t != loss_fn.ignore_index
    mass = weight[t.where(counted, torch.zeros_like(t))] * counted
    rows = []
    for position in range(positions):
        n = position // (positions // y.shape[0])
        one = torch.full_like(t, loss_fn.ignore_index)
        one.view(-1)[position] = drawn.view(-1)[position]
        g = gradient(model, nn.CrossEntropyLoss(), (x[n : n + 1], one[n : n + 1]))
        rows.append((mass.view(-1)[position] / mass.sum()) ** 0.5 * g)
    g = torch.stack(rows)
    assert_close(operator.to_dense(), g.T @ g)


# ---- examples that count differently


def weighted():
    """A loss of (targets, weights): Σ w_n ℓ_n / Σ w_n."""
    torch.manual_seed(1)
    net = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3)).double()

    def loss(y, target):
        t, w = target
        return (w * F.cross_entropy(y, t, reduction="none")).sum() / w.sum()

    objective = quadric.Objective(net, loss, normalizer=lambda batch: float(batch[1][1].sum()))
    x, t, w = torch.randn(8, 4, dtype=F64), torch.randint(3, (8,)), torch.tensor([1.0, 2, 0, 3, 1, 1, 5, 2], dtype=F64)
    return net, objective, (x, t, w)


def repeated(x, t, w):
    """Every example as often as it weighs."""
    times = w.long()
    return x.repeat_interleave(times, 0), t.repeat_interleave(times, 0)


@pytest.mark.parametrize("split", [(8,), (3, 5), (1, 4, 3)])
def test_a_weight_of_two_is_the_example_twice(split):
    net, objective, (x, t, w) = weighted()
    parts = list(zip(x.split(split), t.split(split), w.split(split), strict=True))
    data = [(a, (b, c)) for a, b, c in parts]
    data = data if len(data) > 1 else data[0]
    plain, same = nn.CrossEntropyLoss(), repeated(x, t, w)
    assert_close(quadric.Hessian(objective, data).to_dense(), hessian(net, plain, same))
    assert_close(quadric.GGN(objective, data).to_dense(), ggn(net, plain, same))
    known = quadric.Objective(net, plain)
    assert_close(
        quadric.EmpiricalFisher(objective, data).to_dense(), quadric.EmpiricalFisher(known, same).to_dense(), 1e-9
    )
    # inputs are counted once each, whatever they weigh: so the moments of gradients agree, those of inputs don't
    ours, theirs = (quadric.KFAC(o, d, fisher="empirical") for o, d in ((objective, data), (known, same)))
    for mine, other in zip(ours.blocks, theirs.blocks, strict=True):
        assert_close(mine.left.to_dense(), other.left.to_dense(), 1e-9)
