"""K-FAC and EKFAC: against dense factors from another route, and against the GGN where theory says they are equal."""

import copy
from itertools import pairwise

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import quadric
import zoo
from oracles import assert_close, ggn, gradient

F64 = torch.float64
BOTH = pytest.mark.parametrize("kind", [quadric.KFAC, quadric.EKFAC])


class Mean(nn.Module):
    def forward(self, x):
        return x.mean(1)


def mlp(*sizes, act=nn.Tanh):
    layers = [m for a, b in pairwise(sizes) for m in (nn.Linear(a, b), act())]
    return nn.Sequential(*layers[:-1]).double()


def classification(n=7, d=4, k=3, seed=0):
    g = torch.Generator().manual_seed(seed)
    return torch.randn(n, d, dtype=F64, generator=g), torch.randint(k, (n,), generator=g)


def regression(*shape_in, out):
    return torch.randn(*shape_in, dtype=F64), torch.randn(*out, dtype=F64)


def blocks(operator, by="layer"):
    return quadric.block_diagonal(operator, by=by).to_dense()


def interleaved(a, b):
    """B ⊗ A on [W | b] in the order of the parameters: all of W, then b."""
    out, d = b.shape[0], a.shape[0]
    order = [o * d + i for o in range(out) for i in range(d - 1)] + [o * d + d - 1 for o in range(out)]
    return torch.kron(b, a)[order][:, order]


def dense_factors(net, layer, x, t, loss_fn, patches):
    """(A, B) of one layer of a sequential network: B through the Jacobian of the outputs in the layer's outputs."""
    head, tail = net[:layer], net[layer + 1 :]
    h = head(x)
    a = patches(h)  # [n, places, d]
    a = torch.cat([a, torch.ones_like(a[..., :1])], -1).detach()
    o = net[layer](h).detach()
    n = x.shape[0]
    b = 0
    for i in range(n):
        jac = torch.autograd.functional.jacobian(lambda z: tail(z[None])[0], o[i]).reshape(-1, o[i].numel())
        y = net(x[i : i + 1]).detach()
        # the loss of one example, in its share of the whole
        hess = torch.autograd.functional.hessian(lambda y, i=i: loss_fn(y, t[i : i + 1]), y)
        full = jac.T @ hess.reshape(y.numel(), y.numel()) @ jac / n
        places = full.view(o.shape[1], -1, o.shape[1], full.shape[0] // o.shape[1])
        b = b + torch.einsum("ptqt->pq", places)
    return a.flatten(0, 1).T @ a.flatten(0, 1) / a.flatten(0, 1).shape[0], b


@pytest.mark.parametrize("loss", ["cross-entropy", "mse"])
def test_factors_of_a_multilayer_perceptron(loss):
    net, (x, t) = mlp(4, 5, 3), classification()
    loss_fn = nn.CrossEntropyLoss() if loss == "cross-entropy" else nn.MSELoss()
    t = t if loss == "cross-entropy" else torch.randn(7, 3, dtype=F64)
    want = torch.block_diag(*(interleaved(*dense_factors(net, i, x, t, loss_fn, lambda h: h[:, None])) for i in (0, 2)))
    operator = quadric.KFAC(quadric.Objective(net, loss_fn), (x, t))
    assert_close(operator.to_dense(), want)
    v = torch.randn(want.shape[0], 2, dtype=F64)
    assert_close(operator @ v, want @ v)
    assert operator.symmetric
    assert operator.positive_semidefinite


def test_factors_of_a_convolution():
    net = nn.Sequential(nn.Conv2d(2, 3, (2, 3), stride=(2, 1), padding=1, dilation=(1, 2)), nn.Tanh(), nn.Flatten())
    net.append(nn.Linear(net(torch.ones(1, 2, 5, 6)).shape[1], 3)).double()
    x, t = torch.randn(4, 2, 5, 6, dtype=F64), torch.randint(3, (4,))
    objective = quadric.Objective(net, nn.CrossEntropyLoss(), params="0.*")

    def unfolded(h):
        return F.unfold(h, (2, 3), dilation=(1, 2), padding=1, stride=(2, 1)).transpose(1, 2)

    want = interleaved(*dense_factors(net, 0, x, t, nn.CrossEntropyLoss(), unfolded))
    assert_close(quadric.KFAC(objective, (x, t)).to_dense(), want)


# ---- where theory says it is exact


@BOTH
@pytest.mark.parametrize("sharing", ["expand", "reduce"])
def test_exact_for_a_linear_model_under_squared_error(kind, sharing):
    net, data = nn.Linear(4, 3).double(), regression(6, 4, out=(6, 3))
    operator = kind(quadric.Objective(net, nn.MSELoss()), data, sharing=sharing)
    assert_close(operator.to_dense(), ggn(net, nn.MSELoss(), data))


def test_exact_by_layer_for_a_deep_linear_network():
    net, data = mlp(4, 5, 3, 2, act=nn.Identity), regression(6, 4, out=(6, 2))
    objective = quadric.Objective(net, nn.MSELoss())
    assert_close(quadric.KFAC(objective, data).to_dense(), blocks(quadric.GGN(objective, data)))


@BOTH
@pytest.mark.parametrize("loss_fn", [nn.CrossEntropyLoss(), nn.MSELoss(), nn.BCEWithLogitsLoss(), nn.HuberLoss()])
def test_exact_by_layer_for_one_example(kind, loss_fn):
    net, (x, _) = mlp(4, 5, 3), classification(1)
    t = torch.tensor([1]) if isinstance(loss_fn, nn.CrossEntropyLoss) else torch.rand(1, 3, dtype=F64)
    objective = quadric.Objective(net, loss_fn)
    assert_close(kind(objective, (x, t)).to_dense(), blocks(quadric.GGN(objective, (x, t))))


@pytest.mark.parametrize(("sharing", "tail"), [("expand", nn.Identity), ("reduce", Mean)])
def test_exact_for_a_linear_layer_in_the_setting_of_its_kind_of_sharing(sharing, tail):
    net = nn.Sequential(nn.Linear(4, 3), tail()).double()
    data = regression(5, 6, 4, out=(5, 3) if sharing == "reduce" else (5, 6, 3))
    operator = quadric.KFAC(quadric.Objective(net, nn.MSELoss()), data, sharing=sharing)
    assert_close(operator.to_dense(), ggn(net, nn.MSELoss(), data))


@BOTH
@pytest.mark.parametrize("options", [{}, {"padding_idx": 2}])
def test_exact_for_an_embedding_under_squared_error(kind, options):
    net = nn.Embedding(5, 3, **options).double()
    data = torch.tensor([0, 1, 1, 4, 3, 1]), torch.randn(6, 3, dtype=F64)
    assert_close(kind(quadric.Objective(net, nn.MSELoss()), data).to_dense(), ggn(net, nn.MSELoss(), data))


@BOTH
@pytest.mark.parametrize("dims", [1, 2, 3])
def test_convolutions_of_every_dimension_exact_for_one_place(kind, dims):
    conv = (nn.Conv1d, nn.Conv2d, nn.Conv3d)[dims - 1](2, 3, 2)
    net = nn.Sequential(conv, nn.Flatten()).double()
    data = regression(4, 2, *[2] * dims, out=(4, 3))
    assert_close(kind(quadric.Objective(net, nn.MSELoss()), data).to_dense(), ggn(net, nn.MSELoss(), data))


@pytest.mark.parametrize("mode", ["zeros", "reflect", "circular", "replicate"])
def test_convolution_with_padding_accounts_for_its_gradient(mode):
    net = nn.Sequential(nn.Conv2d(1, 2, 3, padding="same", padding_mode=mode), nn.Flatten(), nn.Linear(32, 3)).double()
    data = torch.randn(3, 1, 4, 4, dtype=F64), torch.tensor([0, 1, 2])
    coverage = quadric.KFAC(quadric.Objective(net, nn.CrossEntropyLoss()), data).coverage
    assert [block.form for block in coverage.blocks] == ["kronecker", "kronecker"]


@pytest.mark.parametrize(
    ("norm", "shape"),
    [
        (lambda: nn.LayerNorm(4), (4,)),
        (lambda: nn.LayerNorm((2, 3)), (2, 3)),
        (lambda: nn.RMSNorm(4), (4,)),
        (lambda: nn.GroupNorm(2, 4), (4, 3)),
        (lambda: nn.InstanceNorm1d(4, affine=True), (4, 3)),
        (lambda: nn.BatchNorm1d(4).eval(), (4,)),
        (lambda: nn.BatchNorm2d(4).eval(), (4, 2, 3)),
    ],
)
def test_norms_have_the_exact_block(norm, shape):
    x, t = torch.randn(5, *shape, dtype=F64), torch.randint(3, (5,))
    net = nn.Sequential(norm(), nn.Flatten(), nn.Tanh(), nn.Linear(x[0].numel(), 3)).double()
    with torch.no_grad():
        net[0].weight.add_(0.3 * torch.randn_like(net[0].weight))
    objective = quadric.Objective(net, nn.CrossEntropyLoss(), params="0.*")
    operator = quadric.KFAC(objective, (x, t))
    assert_close(operator.to_dense(), ggn(net, nn.CrossEntropyLoss(), (x, t), "0.*"))
    assert [block.form for block in operator.coverage.blocks] == ["dense"]


# ---- the eigenvalue correction


@pytest.mark.parametrize(
    "name", ["dense/mlp", "conv/2d", "norm/layer", "loss/cross-entropy-weights", "loss/cross-entropy-all-image"]
)
def test_ekfac_is_nearer_to_the_ggn_than_kfac(name):
    case = zoo.CASES[name]
    (model, loss_fn), data = case.build(), case.batches(5, 3)
    objective = quadric.Objective(model, loss_fn)
    exact = ggn(model, loss_fn, data)
    far, near = ((k(objective, data).to_dense() - exact).norm() for k in (quadric.KFAC, quadric.EKFAC))
    assert near < far


def test_eigenvalues_of_ekfac_are_the_diagonal_of_the_ggn_in_its_basis():
    net, data = mlp(4, 5, 3), classification()
    objective = quadric.Objective(net, nn.CrossEntropyLoss())
    operator, exact = quadric.EKFAC(objective, data), ggn(net, nn.CrossEntropyLoss(), data)
    for block, selection in zip(operator.blocks, operator.selections, strict=True):
        q = torch.kron(block.left, block.right)
        part = exact[selection.indices][:, selection.indices]
        assert_close(block.values.reshape(-1), (q.T @ part @ q).diagonal())


# ---- averages, sources


@BOTH
@pytest.mark.parametrize(
    "name", ["dense/mlp", "conv/2d", "loss/mse", "loss/cross-entropy-weights", "norm/batch-2d-eval"]
)
@pytest.mark.parametrize("fisher", ["exact", "empirical"])
def test_uneven_batches_are_one_large_batch(kind, name, fisher):
    case = zoo.CASES[name]
    (model, loss_fn), data = case.build(), case.batches(4, 3, 1)
    whole = tuple(torch.cat(parts) for parts in zip(*data, strict=True))
    objective = quadric.Objective(model, loss_fn)
    split, joined = (kind(objective, d, fisher=fisher).to_dense() for d in (data, whole))
    assert_close(split, joined, 1e-9)


def test_monte_carlo_factors_have_the_exact_mean():
    net, data = mlp(4, 5, 3), classification()
    objective = quadric.Objective(net, nn.CrossEntropyLoss(weight=torch.tensor([0.5, 2.0, 1.0], dtype=F64)))
    v = torch.randn(objective.space.numel, dtype=F64)
    draws = torch.stack([v @ (quadric.KFAC(objective, data, fisher="mc", seed=s) @ v) for s in range(150)])
    exact = v @ (quadric.KFAC(objective, data) @ v)
    assert abs(draws.mean() - exact) <= 4 * draws.std() / len(draws) ** 0.5
    again = [quadric.KFAC(objective, data, fisher="mc", seed=3) @ v for _ in range(2)]
    assert torch.equal(*again)


@BOTH
def test_empirical_for_one_example_is_the_outer_product_by_layer(kind):
    net, data = mlp(4, 5, 3), classification(1)
    g = gradient(net, nn.CrossEntropyLoss(), data)
    objective = quadric.Objective(net, nn.CrossEntropyLoss())
    want = torch.block_diag(*(torch.outer(part, part) for part in g.split([25, 18])))
    assert_close(kind(objective, data, fisher="empirical").to_dense(), want)


def test_ignored_examples_leave_the_gradient_factor_alone():
    net, (x, t) = mlp(4, 3), classification()
    objective = quadric.Objective(net, nn.CrossEntropyLoss())
    ignored = (x, torch.full_like(t, -100))
    assert_close(quadric.KFAC(objective, [(x, t), ignored]).to_dense(), quadric.KFAC(objective, (x, t)).to_dense())


def test_exponential_average():
    net, first, second = mlp(4, 5, 3), classification(5), classification(6, seed=1)
    objective = quadric.Objective(net, nn.CrossEntropyLoss())
    operator = quadric.KFAC(objective)
    operator.update(first, decay=0.9)
    one, two = quadric.KFAC(objective, first), quadric.KFAC(objective, second)
    assert_close(operator.to_dense(), one.to_dense())
    operator.update(second, decay=0.9)
    new, old = 0.1 / 0.19, 0.09 / 0.19
    for block, a, b in zip(operator.blocks, one.blocks, two.blocks, strict=True):
        assert_close(block.left.matrix, old * a.left.matrix + new * b.left.matrix)
        assert_close(block.right.matrix, old * a.right.matrix + new * b.right.matrix)
    with pytest.raises(ValueError, match=r"decay from 0 to below 1, got 1\.0"):
        operator.update(first, decay=1.0)


# ---- what is covered


def test_diagonal_blocks_have_the_mean_of_the_ggn():
    case = zoo.CASES["net/weight-used-directly"]
    (model, loss_fn), data = case.build(), case.batch(4)
    objective = quadric.Objective(model, loss_fn)
    coverage = quadric.KFAC(objective, data).coverage
    want = ggn(model, loss_fn, data).diagonal()
    v = torch.zeros_like(want)
    for name, part in zip(objective.names, v.split(objective.space.numels), strict=True):
        if coverage.of(name).form == "diagonal":
            part.uniform_(0.5, 1)
    draws = torch.stack(
        [(v * quadric.diagonal(quadric.KFAC(objective, data, seed=s)).values).sum() for s in range(100)]
    )
    assert abs(draws.mean() - (v * want).sum()) <= 4 * draws.std() / len(draws) ** 0.5


def test_layers_that_share_a_weight_in_the_same_role_share_a_block():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Linear(4, 4), nn.Linear(4, 4)
            self.b.weight = self.a.weight
            self.b.bias = self.a.bias

        def forward(self, x):
            return torch.cat([self.a(x[:, 0]), self.b(x[:, 1])], 1)

    model, data = Twice().double(), regression(5, 2, 4, out=(5, 8))
    objective = quadric.Objective(model, nn.MSELoss())
    operator = quadric.KFAC(objective, data)
    assert [block.form for block in operator.coverage.blocks] == ["kronecker"]
    assert "shared by 2 modules" in operator.coverage.of("a.weight").reason
    assert_close(operator.to_dense(), ggn(model, nn.MSELoss(), data))


def test_weights_used_outside_of_their_module_are_found_out():
    class Sneaky(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Linear(4, 4), nn.Linear(4, 3)

        def forward(self, x):
            return self.b(F.linear(x, self.a.weight) + self.a(x))

    model, data = Sneaky().double(), classification()
    coverage = quadric.KFAC(quadric.Objective(model, nn.CrossEntropyLoss()), data).coverage
    assert coverage.of("a.weight").form == "diagonal"
    assert "outside of calls of its module" in coverage.of("a.weight").reason
    assert coverage.of("b.weight").form == "kronecker"


@BOTH
@pytest.mark.parametrize("sharing", ["expand", "reduce"])
@pytest.mark.parametrize(("batch_first", "bias"), [(True, True), (False, True), (True, False)])
def test_projections_of_attention_are_linear_layers(kind, sharing, batch_first, bias):
    """As the same attention written out with linear layers, whatever the order of examples and places."""

    class WrittenOut(nn.Module):
        def __init__(self):
            super().__init__()
            self.inward, self.outward = nn.Linear(4, 12, bias=bias), nn.Linear(4, 4, bias=bias)

        def forward(self, x):
            parts = self.inward(x).unflatten(2, (3, 2, 2)).permute(2, 0, 3, 1, 4)
            return self.outward(nn.functional.scaled_dot_product_attention(*parts).transpose(1, 2).flatten(2))

    class Net(nn.Module):
        def __init__(self, attention):
            super().__init__()
            self.before, self.attention, self.head = nn.Linear(4, 4), attention, nn.Linear(4, 3)

        def forward(self, x):
            h = self.before(x).tanh()
            if isinstance(self.attention, nn.MultiheadAttention):
                turned = h if batch_first else h.transpose(0, 1)
                h = self.attention(turned, turned, turned, need_weights=bias)[0]
                h = h if batch_first else h.transpose(0, 1)
            else:
                h = self.attention(h)
            return self.head(h.mean(1))

    plain, packed = Net(WrittenOut()), Net(nn.MultiheadAttention(4, 2, batch_first=batch_first, bias=bias))
    plain, packed = plain.double(), packed.double()
    with torch.no_grad():
        for p, q in zip(plain.parameters(), packed.parameters(), strict=True):
            p.copy_(torch.randn(p.shape, dtype=F64))
            q.copy_(p)
    data = (torch.randn(24, 5, 4, dtype=F64), torch.arange(24) % 3)
    operators = [
        kind(quadric.Objective(net, nn.CrossEntropyLoss()), data, fisher="exact", sharing=sharing)
        for net in (plain, packed)
    ]
    assert {block.form for block in operators[1].coverage.blocks} == {"kronecker"}
    written, found = (operator.to_dense() for operator in operators)
    if kind is quadric.EKFAC and sharing == "reduce":  # slopes at the keys sum to 0: any basis of those will do
        written, found = written.trace(), found.trace()
    assert_close(found, written, 1e-12)


@BOTH
@pytest.mark.parametrize(("batch_first", "bias"), [(True, False), (False, False), (True, True)])
def test_projections_of_attention_to_other_widths_are_linear_layers(kind, batch_first, bias):
    """As written out with a linear layer each, without the bias, which all three take a part of."""

    class WrittenOut(nn.Module):
        def __init__(self):
            super().__init__()
            self.q_proj_weight, self.k_proj_weight, self.v_proj_weight = (
                nn.Linear(d, 4, bias=False) for d in (4, 3, 2)
            )
            self.in_proj_bias = nn.Parameter(torch.zeros(12)) if bias else None
            self.out_proj = nn.Linear(4, 4, bias=bias)

        def forward(self, q, k, v):
            added = self.in_proj_bias.chunk(3) if bias else (0, 0, 0)
            inward = zip((self.q_proj_weight, self.k_proj_weight, self.v_proj_weight), (q, k, v), added, strict=True)
            parts = [(layer(x) + b).unflatten(2, (2, 2)).transpose(1, 2) for layer, x, b in inward]
            return self.out_proj(nn.functional.scaled_dot_product_attention(*parts).transpose(1, 2).flatten(2))

    class Net(nn.Module):
        def __init__(self, attention):
            super().__init__()
            self.before, self.attention, self.head = nn.Linear(4, 4), attention, nn.Linear(4, 3)

        def forward(self, x, y):
            h, turned = self.before(x).tanh(), isinstance(self.attention, nn.MultiheadAttention) and not batch_first
            q, k, v = (t.transpose(0, 1) if turned else t for t in (h, y, y[..., :2]))
            out = self.attention(q, k, v)
            out = out[0] if isinstance(out, tuple) else out
            return self.head((out.transpose(0, 1) if turned else out).mean(1))

    plain = Net(WrittenOut()).double()
    stock = Net(nn.MultiheadAttention(4, 2, kdim=3, vdim=2, batch_first=batch_first, bias=bias)).double()
    state = {name: torch.randn_like(p) for name, p in stock.named_parameters()}
    stock.load_state_dict(state)
    plain.load_state_dict({name + ".weight" * name.endswith("proj_weight"): p for name, p in state.items()})
    g = torch.Generator().manual_seed(1)
    inputs = torch.randn(9, 5, 4, dtype=F64, generator=g), torch.randn(9, 6, 3, dtype=F64, generator=g)
    data = (inputs, torch.arange(9) % 3)
    written, found = (kind(quadric.Objective(net, nn.CrossEntropyLoss()), data) for net in (plain, stock))
    for name in ("q_proj_weight", "k_proj_weight", "v_proj_weight", "out_proj.weight"):
        assert found.coverage.of(f"attention.{name}").form == "kronecker"
        inner = f"attention.{name}" + ".weight" * name.endswith("proj_weight")
        assert_close(block_of(found, f"attention.{name}"), block_of(written, inner))
    if bias:
        assert found.coverage.of("attention.in_proj_bias").form == "diagonal"


def block_of(operator, name):
    """The dense block of a parameter."""
    covers = zip(operator.coverage.blocks, operator.blocks, strict=True)
    return next(block.to_dense() for covered, block in covers if name in covered.parameters)


@BOTH
def test_attention_of_ones_own_is_not_taken_for_torchs(kind):
    """A forward of its own may order examples and places otherwise, take other arguments and return something else."""

    class BatchFirst(nn.MultiheadAttention):
        def forward(self, x):
            q, k, v = nn.functional.linear(x, self.in_proj_weight, self.in_proj_bias).chunk(3, dim=2)
            return {"out": self.out_proj(nn.functional.scaled_dot_product_attention(q, k, v))}

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.attention, self.head = BatchFirst(4, 1), nn.Linear(4, 3)

        def forward(self, x):
            return self.head(self.attention(x=x)["out"].mean(1))

    data = (torch.randn(6, 5, 4, dtype=F64), torch.arange(6) % 3)
    coverage = kind(quadric.Objective(Net().double(), nn.CrossEntropyLoss()), data).coverage
    assert coverage.of("attention.in_proj_weight").form == "diagonal"
    assert "BatchFirst" in coverage.of("attention.in_proj_weight").reason
    assert coverage.of("attention.out_proj.weight").form == "kronecker"


@BOTH
def test_attention_with_frozen_projections_of_other_widths(kind):
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.attention, self.head = nn.MultiheadAttention(4, 1, kdim=3, vdim=3), nn.Linear(4, 3)
            for part in "qkv":
                getattr(self.attention, f"{part}_proj_weight").requires_grad_(False)

        def forward(self, x):
            turned = x.transpose(0, 1).contiguous()
            return self.head(self.attention(turned, turned[..., :3], turned[..., :3])[0].mean(0))

    data = (torch.randn(6, 5, 4, dtype=F64), torch.arange(6) % 3)
    coverage = kind(quadric.Objective(Net().double(), nn.CrossEntropyLoss()), data).coverage
    assert coverage.of("attention.out_proj.weight").form == "kronecker"


@BOTH
def test_attention_whose_projection_is_computed_keeps_its_other_layers(kind):
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.attention, self.head = nn.MultiheadAttention(4, 1), nn.Linear(4, 3)
            nn.utils.parametrize.register_parametrization(self.attention, "in_proj_weight", nn.Identity())

        def forward(self, x):
            turned = x.transpose(0, 1)
            return self.head(self.attention(turned, turned, turned)[0].mean(0))

    data = (torch.randn(6, 5, 4, dtype=F64), torch.arange(6) % 3)
    coverage = kind(quadric.Objective(Net().double(), nn.CrossEntropyLoss()), data).coverage
    assert coverage.of("attention.in_proj_bias").form == "diagonal"
    assert coverage.of("attention.out_proj.weight").form == "kronecker"


@BOTH
def test_a_bias_registered_before_its_weight_shares_its_block(kind):
    model, data = mlp(4, 5, 3), classification()
    weight = model[0].weight
    del model[0].weight
    model[0].weight = weight  # as torch.nn.utils.prune.remove leaves it
    coverage = kind(quadric.Objective(model, nn.CrossEntropyLoss()), data).coverage
    assert set(coverage.of("0.bias").parameters) == {"0.weight", "0.bias"}
    assert coverage.of("0.bias").form == "kronecker"


def test_a_bias_before_its_weight_gives_the_same_operator():
    plain, turned = mlp(4, 5, 3), mlp(4, 5, 3)
    turned.load_state_dict(plain.state_dict())
    weight = turned[0].weight
    del turned[0].weight
    turned[0].weight = weight
    data = classification()
    a, b = (
        quadric.KFAC(quadric.Objective(net, nn.CrossEntropyLoss()), data, fisher="exact") for net in (plain, turned)
    )
    order = torch.cat([torch.arange(20, 25), torch.arange(20), torch.arange(25, a.shape[0])])
    assert_close(b.to_dense(), a.to_dense()[order][:, order])


@BOTH
def test_cross_attention_groups_and_bare_parameters_fall_back(kind):
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.attention = nn.MultiheadAttention(4, 2, batch_first=True)
            self.scale = nn.Parameter(torch.ones(4))
            self.grouped = nn.Conv1d(4, 4, 1, groups=2)
            self.head = nn.Linear(4, 3)

        def forward(self, x):
            h = self.attention(x, x.exp(), x.exp(), need_weights=False)[0] * self.scale
            return self.head(self.grouped(h.transpose(1, 2)).mean(2))

    model, data = Net().double(), (torch.randn(3, 5, 4, dtype=F64), torch.tensor([0, 1, 2]))
    operator = kind(quadric.Objective(model, nn.CrossEntropyLoss()), data)
    forms = {name: block.form for block in operator.coverage.blocks for name in block.parameters}
    assert {name for name, form in forms.items() if form == "kronecker"} == {
        *("attention.out_proj.weight", "attention.out_proj.bias"),
        *("head.weight", "head.bias"),
    }
    assert "outside of calls" in operator.coverage.of("attention.in_proj_weight").reason
    assert "attention whose query and keys differ" in operator.coverage.of("attention.in_proj_weight").reason
    assert "groups" in operator.coverage.of("grouped.weight").reason
    assert "no Kronecker form is known for the model (Net)" in operator.coverage.of("scale").reason
    assert (operator @ torch.ones(operator.shape[0], dtype=F64)).isfinite().all()
    with pytest.raises(KeyError, match="no parameter of this operator"):
        operator.coverage.of("nothing")


def test_an_activation_in_place_changes_nothing():
    data = classification()
    nets = [mlp(4, 5, 3, act=act) for act in (nn.ReLU, lambda: nn.ReLU(inplace=True))]
    nets[1].load_state_dict(nets[0].state_dict())
    a, b = (quadric.KFAC(quadric.Objective(net, nn.CrossEntropyLoss()), data).to_dense() for net in nets)
    assert_close(a, b, 1e-15)


def test_batch_norm_in_train_mode_leaves_buffers_alone():
    case = zoo.CASES["norm/batch-2d-train"]
    (model, loss_fn), data = case.build(), case.batches(5, 3)
    before = copy.deepcopy(model.state_dict())
    objective = quadric.Objective(model, loss_fn)
    v = torch.ones(objective.space.numel, dtype=F64)
    assert (quadric.KFAC(objective, data) @ v).isfinite().all()
    assert all(torch.equal(before[k], x) for k, x in model.state_dict().items())
    assert all(not m._forward_hooks for m in model.modules())
    with pytest.raises(ValueError, match="examples meet"):
        quadric.KFAC(objective, data, fisher="empirical") @ v


# ---- as an operator


@BOTH
def test_follows_the_parameters(kind):
    net, data = mlp(4, 5, 3), classification()
    objective = quadric.Objective(net, nn.CrossEntropyLoss())
    operator = kind(objective, data)
    v = torch.ones(operator.shape[0], dtype=F64)
    before = operator @ v
    assert torch.equal(operator @ v, before)
    net[0].weight.data.mul_(1.5)
    assert not torch.allclose(operator @ v, before)
    assert_close(operator @ v, kind(objective, data) @ v, 1e-13)


@BOTH
def test_closed_forms(kind):
    net, data = mlp(4, 5, 3), classification()
    operator = kind(quadric.Objective(net, nn.CrossEntropyLoss()), data)
    dense = operator.to_dense()
    v, eye = torch.randn(dense.shape[0], dtype=F64), torch.eye(dense.shape[0], dtype=F64)
    assert_close(quadric.inverse(operator, damping=0.1) @ v, torch.linalg.solve(dense + 0.1 * eye, v))
    assert_close(
        quadric.inverse(operator, damping=0.1, correction=0.5) @ v, torch.linalg.solve(dense + 0.1 * eye, v) + v / 2
    )
    assert_close(quadric.diagonal(operator).values, dense.diagonal())
    assert quadric.trace(operator).estimate == pytest.approx(float(dense.trace()))
    assert quadric.logdet(operator + 0.1 * quadric.identity_like(operator)).estimate == pytest.approx(
        float(torch.logdet(dense + 0.1 * eye))
    )
    assert_close((2 * operator + 0.1 * quadric.identity_like(operator)) @ v, 2 * dense @ v + 0.1 * v)
    assert_close(quadric.block_diagonal(operator, by="layer").to_dense(), dense)


def test_factored_damping_keeps_kronecker_blocks():
    net, data = mlp(4, 5, 3), classification()
    operator = quadric.factored_damping(quadric.KFAC(quadric.Objective(net, nn.CrossEntropyLoss()), data), 0.1)
    assert all(isinstance(block, quadric.operators.Kronecker) for block in operator.blocks)


def test_refusals():
    data = classification()
    objective = quadric.Objective(mlp(4, 3), nn.CrossEntropyLoss())
    with pytest.raises(TypeError, match=r"Expected a quadric\.Objective, got Sequential"):
        quadric.KFAC(mlp(4, 3), data)
    with pytest.raises(ValueError, match="fisher to be one of 'exact', 'mc', 'empirical', got 'type-2'"):
        quadric.KFAC(objective, data, fisher="type-2")
    with pytest.raises(ValueError, match="sharing='expand' or sharing='reduce', got 'sum'"):
        quadric.KFAC(objective, data, sharing="sum")
    with pytest.raises(ValueError, match="samples to be a positive integer, got 0"):
        quadric.KFAC(objective, data, samples=0)
    own = quadric.Objective(mlp(4, 3), lambda y, t: F.cross_entropy(y, t))
    with pytest.raises(ValueError, match=r"fisher='exact' needs one of torch's element-wise losses.*got <lambda>"):
        quadric.KFAC(own, data)
    with pytest.raises(ValueError, match="fisher='mc' needs cross-entropy, squared error"):
        quadric.KFAC(quadric.Objective(mlp(4, 3), nn.HuberLoss()), data, fisher="mc")
    with pytest.raises(ValueError, match=r"returns its own loss.*no K-FAC"):
        quadric.KFAC(quadric.Objective(mlp(4, 3), None, loss_of=lambda y: y.sum()), data)
    with pytest.raises(ValueError, match="The loss is nan: the inputs hold NaN"):
        quadric.KFAC(objective, (data[0] * float("nan"), data[1])).to_dense()
    with pytest.raises(ValueError, match="every D_b is 0"):
        quadric.KFAC(objective, (data[0], torch.full_like(data[1], -100))).to_dense()


# ---- beside another implementation


@pytest.mark.parametrize("conv", [False, True])
@pytest.mark.parametrize("sharing", ["expand", "reduce"])
def test_agrees_with_curvlinops(conv, sharing):
    curvlinops = pytest.importorskip("curvlinops")
    head = [nn.Conv2d(2, 3, 2, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(48, 3)]
    net = nn.Sequential(*head).double() if conv else mlp(4, 5, 3, act=nn.ReLU)
    x = torch.randn(7, 2, 3, 3, dtype=F64) if conv else torch.randn(7, 4, dtype=F64)
    data = x, torch.randint(3, (7,))
    theirs = curvlinops.KFACLinearOperator(
        net,
        nn.CrossEntropyLoss(),
        list(net.parameters()),
        [data],
        fisher_type="type-2",
        kfac_approx=sharing,
        separate_weight_and_bias=False,
    )
    ours = quadric.KFAC(quadric.Objective(net, nn.CrossEntropyLoss()), data, sharing=sharing)
    v = torch.randn(ours.shape[0], 3, dtype=F64)
    assert_close(ours @ v, theirs @ v, 1e-6)
