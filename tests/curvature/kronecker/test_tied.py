"""An embedding tied to a linear layer, and linear layers with one weight: against the untied layers and the GGN."""

import copy

import pytest
import torch
from torch import nn

import quadric
import zoo
from oracles import assert_close, ggn
from quadric.curvature.kronecker.marginals import marginals

F64 = torch.float64
BOTH = pytest.mark.parametrize("kind", [quadric.KFAC, quadric.EKFAC])
WORDS, WIDTH, PLACES = 7, 4, 5


class Model(nn.Module):
    """A causal transformer of one block that reads its embedding again at the output."""

    def __init__(self, bias=False, tied=True, padding=None, body=True):
        super().__init__()
        self.table = nn.Embedding(WORDS, WIDTH, padding_idx=padding)
        self.body = nn.TransformerEncoderLayer(WIDTH, 2, 6, dropout=0.0, batch_first=True) if body else nn.Identity()
        self.norm = nn.LayerNorm(WIDTH)
        self.head = nn.Linear(WIDTH, WORDS, bias=bias)
        if tied:
            self.head.weight = self.table.weight

    def forward(self, x):
        h = self.table(x)
        if not isinstance(self.body, nn.Identity):
            mask = nn.Transformer.generate_square_subsequent_mask(PLACES, dtype=h.dtype)
            h = self.body(h, src_mask=mask, is_causal=True)
        return self.head(self.norm(h)).transpose(1, 2)


def made(**options):
    """The model and a loss for each token."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        return Model(**options).double(), nn.CrossEntropyLoss()


def batch(n=6, seed=0):
    g = torch.Generator().manual_seed(seed)
    return torch.randint(WORDS, (n, PLACES), generator=g), torch.randint(WORDS, (n, PLACES), generator=g)


def untied(model, **options):
    """The same function with a weight of its own at the output."""
    twin = Model(tied=False, **options).double()
    state = model.state_dict()
    twin.load_state_dict({**state, "head.weight": state["table.weight"]})
    return twin


def block_of(operator, name):
    """The operator's block of a parameter."""
    places = zip(operator.blocks, operator.selections, strict=True)
    return next((block, where) for block, where in places if any(name in part for part in where.space.names))


def sum_of_uses(operator, bias):
    """Σ A ⊗ B over the two layers of the untied model, on [W | b]."""
    columns = WIDTH + bias
    where = torch.arange(WORDS * columns).view(WORDS, columns)[:, :WIDTH].reshape(-1)
    out = block_of(operator, "head.weight")[0].to_dense().clone()
    out[where.unsqueeze(1), where] += block_of(operator, "table.weight")[0].to_dense()
    return out.view(WORDS, columns, WORDS, columns)


def product_of_marginals(c):
    left, right = torch.einsum("iaja->ij", c), torch.einsum("iaib->ab", c)
    return torch.kron(left, right) / right.trace()


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("sharing", ["expand", "reduce"])
@pytest.mark.parametrize("fisher", ["exact", "mc", "empirical"])
def test_factors_are_the_marginals_of_the_sum_over_the_untied_layers(bias, sharing, fisher):
    model, loss_fn = made(bias=bias)
    options = {"fisher": fisher, "sharing": sharing}
    one, two = (
        quadric.KFAC(quadric.Objective(net, loss_fn), batch(), **options) for net in (model, untied(model, bias=bias))
    )
    block, _ = block_of(one, "table.weight")
    want = product_of_marginals(sum_of_uses(two, bias))
    assert isinstance(block, quadric.operators.Kronecker)
    assert block.positive_semidefinite
    assert_close(block.to_dense(), want)
    assert torch.linalg.eigvalsh(block.to_dense()).min() > -1e-14


@BOTH
@pytest.mark.parametrize("used", ["table", "head"])
def test_a_weight_with_one_use_is_as_if_it_were_not_tied(kind, used):
    class Half(Model):
        def forward(self, x):
            return self.table(x).transpose(1, 2) if used == "table" else self.head(x).transpose(1, 2)

    model = Half(body=False).double()
    x = torch.randint(WORDS, (4, PLACES)) if used == "table" else torch.randn(4, PLACES, WIDTH, dtype=F64)
    data = x, torch.randn(4, WIDTH if used == "table" else WORDS, PLACES, dtype=F64)
    alone = nn.ModuleDict({"table": nn.Embedding(WORDS, WIDTH), "head": nn.Linear(WIDTH, WORDS, bias=False)})[used]
    alone = nn.Sequential(alone, Turned()).double()
    alone[0].weight.data.copy_(model.table.weight)
    got = kind(quadric.Objective(model, nn.MSELoss(), params="table.weight"), data)
    assert got.coverage.of("table.weight").form == "kronecker"
    assert_close(got.to_dense(), kind(quadric.Objective(alone, nn.MSELoss()), data).to_dense())


class Turned(nn.Module):
    def forward(self, y):
        return y.transpose(1, 2)


@pytest.mark.parametrize("options", [{}, {"bias": True}, {"padding": 2}])
def test_eigenvalues_of_ekfac_are_the_diagonal_of_the_ggn_in_its_basis(options):
    (model, loss_fn), data = made(**options), batch()
    operator = quadric.EKFAC(quadric.Objective(model, loss_fn), data)
    block, where = block_of(operator, "table.weight")
    q = torch.kron(block.left, block.right)
    exact = ggn(model, loss_fn, data)[where.indices][:, where.indices]
    assert_close(block.values.reshape(-1), (q.T @ exact @ q).diagonal())


@pytest.mark.parametrize("bias", [False, True])
def test_ekfac_is_nearer_to_the_ggn_than_kfac(bias):
    (model, loss_fn), data = made(bias=bias), batch(12)
    objective = quadric.Objective(model, loss_fn)
    far, near = (block_of(kind(objective, data), "table.weight") for kind in (quadric.KFAC, quadric.EKFAC))
    exact = ggn(model, loss_fn, data)[far[1].indices][:, far[1].indices]
    errors = [(block.to_dense() - exact).norm() for block, _ in (near, far)]
    assert errors[0] < errors[1]


# ---- one product for a sum of several


def positive(*sizes, rank=3):
    factors = [torch.randn(size, rank, dtype=F64) for size in sizes]
    return [f @ f.T for f in factors]


def dense(pair):
    return torch.kron(*(m.diag() if m.dim() == 1 else m for m in pair))


def entropy(c, pair):
    """tr C(log C − log L ⊗ R), less what does not depend on L and R."""
    values, vectors = torch.linalg.eigh(dense(pair))
    return -(vectors.T @ c @ vectors).diagonal() @ values.log()


def pairs():
    left, right = positive(5, 3, rank=6)
    return [(torch.rand(5, dtype=F64), right), (left, positive(3)[0]), (positive(5)[0], torch.rand(3, dtype=F64))]


def test_marginals_are_the_partial_traces():
    terms = pairs()
    c = sum(dense(pair) for pair in terms).view(5, 3, 5, 3)
    got = marginals(terms)
    assert_close(dense(got), product_of_marginals(c))
    assert_close(got[0], torch.einsum("iaja->ij", c))


def test_marginals_are_nearest_in_relative_entropy():
    terms = pairs()
    c = sum(dense(pair) for pair in terms)
    left, right = marginals(terms)
    least = entropy(c, (left, right))
    for _ in range(20):
        moved = [m + 0.05 * m.trace() * positive(m.shape[0])[0] for m in (left, right)]
        moved[0] *= c.trace() / dense(moved).trace()
        assert entropy(c, moved) > least


def test_a_sum_of_nothing_is_zero_and_one_pair_stays():
    zero = [
        (torch.zeros(2, dtype=F64), torch.zeros(3, 3, dtype=F64)),
        (torch.zeros(2, 2, dtype=F64), torch.eye(3).double()),
    ]
    assert not dense(marginals(zero)).any()
    pair = tuple(positive(4, 2))
    assert_close(dense(marginals([pair])), dense(pair))


def test_marginals_are_nearly_nearest_in_the_frobenius_norm():
    """The least error there is comes from the leading singular vectors of the rearranged sum."""
    model, loss_fn = made()
    c = sum_of_uses(quadric.KFAC(quadric.Objective(untied(model), loss_fn), batch(20)), False)
    rearranged = c.permute(0, 2, 1, 3).reshape(WORDS**2, WIDTH**2)
    u, s, vt = torch.linalg.svd(rearranged)
    best = s[1:].norm()
    assert_close((rearranged - s[0] * torch.outer(u[:, 0], vt[0])).norm(), best)
    error = (product_of_marginals(c) - c.reshape(WORDS * WIDTH, -1)).norm()
    assert best <= error < 1.1 * best


# ---- as an operator, over batches


@BOTH
@pytest.mark.parametrize("bias", [False, True])
def test_closed_forms(kind, bias):
    (model, loss_fn), data = made(bias=bias), batch()
    operator = kind(quadric.Objective(model, loss_fn), data)
    matrix = operator.to_dense()
    v, eye = torch.randn(matrix.shape[0], dtype=F64), torch.eye(matrix.shape[0], dtype=F64)
    assert_close(operator @ v, matrix @ v)
    assert_close(quadric.inverse(operator, damping=0.1) @ v, torch.linalg.solve(matrix + 0.1 * eye, v))
    assert_close(quadric.diagonal(operator).values, matrix.diagonal())
    if kind is quadric.KFAC:
        damped = quadric.factored_damping(operator, 0.1)
        assert_close(quadric.inverse(damped) @ v, torch.linalg.solve(damped.to_dense(), v))


@BOTH
def test_uneven_batches_are_one_large_batch(kind):
    (model, loss_fn), data = made(bias=True), [batch(4), batch(3, 1), batch(1, 2)]
    whole = tuple(torch.cat(parts) for parts in zip(*data, strict=True))
    objective = quadric.Objective(model, loss_fn)
    assert_close(kind(objective, data).to_dense(), kind(objective, whole).to_dense(), 1e-9)


def test_a_running_average_is_that_of_each_use():
    model, loss_fn = made(bias=True)
    first, second, decay = batch(5), batch(6, 1), 0.9
    objective, twin = quadric.Objective(model, loss_fn), quadric.Objective(untied(model, bias=True), loss_fn)
    operators = [quadric.KFAC(o) for o in (objective, twin)]
    for data in (first, second):
        for operator in operators:
            operator.update(data, decay=decay)
    want = product_of_marginals(sum_of_uses(operators[1], True))
    assert_close(block_of(operators[0], "table.weight")[0].to_dense(), want)


@BOTH
def test_a_saved_average_goes_on(kind):
    model, loss_fn = made(bias=True)
    objective = quadric.Objective(model, loss_fn)
    first, second = kind(objective), kind(objective)
    first.update(batch(5))
    second.load_state(copy.deepcopy(first.state()))
    options = [{}, {"refresh": False}] if kind is quadric.EKFAC else [{}]
    for option in options:
        for operator in (first, second):
            operator.update(batch(6, 1), **option)
        assert torch.equal(first.to_dense(), second.to_dense())
    assert first.side == 3 * WIDTH  # more than the words: the queries, keys and values


# ---- what is covered


def test_the_coverage_says_so():
    case = zoo.CASES["net/tied-embedding"]
    (model, loss_fn), data = case.build(), case.batch(4)
    objective = quadric.Objective(model, loss_fn)
    coverage = quadric.KFAC(objective, data).coverage
    covered = coverage.of("embedding.weight")
    assert (covered.form, covered.reason) == (
        "kronecker",
        "embedding tied to a linear layer, one Kronecker product for both",
    )
    assert sorted(name for block in coverage.blocks for name in block.parameters) == sorted(objective.names)
    model, loss_fn = made(bias=True)
    coverage = quadric.KFAC(quadric.Objective(model, loss_fn), batch()).coverage
    assert coverage.of("table.weight").parameters == ("table.weight", "head.bias")


def test_a_bias_before_its_weight_shares_the_block():
    model, loss_fn = made(bias=True)
    for owner, name in ((model.head, "weight"), (model, "table")):  # to the end
        part = getattr(owner, name)
        delattr(owner, name)
        setattr(owner, name, part)
    objective = quadric.Objective(model, loss_fn)
    assert objective.names.index("head.bias") < objective.names.index("head.weight")
    coverage = quadric.EKFAC(objective, batch()).coverage
    assert coverage.of("head.bias").parameters == ("head.weight", "head.bias")


def test_an_embedding_of_another_kind_falls_back_with_its_bias():
    model, loss_fn = made(bias=True)
    model.table.scale_grad_by_freq = True
    coverage = quadric.KFAC(quadric.Objective(model, loss_fn), batch()).coverage
    assert coverage.of("table.weight").form == "diagonal"
    assert "shared between table (Embedding), head (Linear)" in coverage.of("table.weight").reason
    assert coverage.of("head.bias").form == "kronecker"


class Regularised(Model):
    def forward(self, x):
        return super().forward(x) + self.table.weight.square().mean()


@BOTH
def test_a_further_use_by_a_function_is_found_out(kind):
    model = Regularised(bias=True, body=False).double()
    coverage = kind(quadric.Objective(model, nn.CrossEntropyLoss()), batch()).coverage
    for name in ("table.weight", "head.bias"):
        assert coverage.of(name).form == "diagonal"
        assert "outside of calls" in coverage.of(name).reason


@BOTH
def test_modules_with_hooks_are_judged_by_their_gradient(kind):
    """One that leaves the output alone changes nothing, one that scales it by the weight does."""
    (model, loss_fn), data = made(bias=True), batch()
    plain = kind(quadric.Objective(model, loss_fn), data).to_dense()
    handle = model.head.register_forward_hook(lambda module, args, output: output * 1)
    assert_close(kind(quadric.Objective(model, loss_fn), data).to_dense(), plain)
    handle.remove()
    model.head.register_forward_hook(lambda module, args, output: output * module.weight.sum())
    assert kind(quadric.Objective(model, loss_fn), data).coverage.of("table.weight").form == "diagonal"


@BOTH
def test_linear_layers_with_one_weight_may_have_biases_of_their_own(kind):
    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Linear(4, 4), nn.Linear(4, 4)
            self.b.weight = self.a.weight

        def forward(self, x):
            return torch.cat([self.a(x[:, 0]), self.b(x[:, 1])], 1)

    model, data = Two().double(), (torch.randn(5, 2, 4, dtype=F64), torch.randn(5, 8, dtype=F64))
    objective = quadric.Objective(model, nn.MSELoss())
    operator = kind(objective, data)
    assert [block.form for block in operator.coverage.blocks] == ["kronecker"] * 3
    exact = quadric.block_diagonal(quadric.GGN(objective, data), by="parameter")
    assert_close(operator.to_dense(), exact.to_dense())


def test_a_table_read_by_two_embeddings_and_a_head():
    class Pair(Model):
        def __init__(self):
            super().__init__(bias=True, body=False)
            self.second = nn.Embedding(WORDS, WIDTH)
            self.second.weight = self.table.weight

        def forward(self, x):
            return self.head(self.norm(self.table(x) + self.second(x.flip(1)))).transpose(1, 2)

    model, data = Pair().double(), batch()
    operator = quadric.EKFAC(quadric.Objective(model, nn.CrossEntropyLoss()), data)
    assert "shared by 3 modules" in operator.coverage.of("table.weight").reason
    block, where = block_of(operator, "table.weight")
    q = torch.kron(block.left, block.right)
    exact = ggn(model, nn.CrossEntropyLoss(), data)[where.indices][:, where.indices]
    assert_close(block.values.reshape(-1), (q.T @ exact @ q).diagonal())


def test_the_diagonal_of_a_tied_model_is_exact():
    (model, loss_fn), data = made(bias=True), batch()
    part = quadric.Objective(model, loss_fn, params=["table.*", "head.*", "norm.*"])
    values = quadric.diagonal(quadric.GGN(part, data))
    assert values.exact
    assert_close(values.values, ggn(model, loss_fn, data, ["table.*", "head.*", "norm.*"]).diagonal())
