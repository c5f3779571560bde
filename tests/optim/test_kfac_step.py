"""K-FAC against the same steps done with full matrices."""

import copy
import math

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

import quadric
from oracles import assert_close, ggn, gradient
from quadric.optim import EKFAC, KFAC

F64 = torch.float64


def mlp():
    return nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 3))


def cnn():
    return nn.Sequential(
        nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.ReLU(inplace=True), nn.Conv2d(3, 2, 2), nn.Tanh(), nn.Flatten(),
        nn.Linear(8, 3),
    )  # fmt: skip


PROBLEMS = {"mlp": (mlp, (4,)), "cnn-batch-norm": (cnn, (1, 5, 5))}


def problem(name, count=9):
    make, shape = PROBLEMS[name]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        model = make().double()
    generator = torch.Generator().manual_seed(20)
    batches = []
    for _ in range(count):
        x = torch.randn(8, *shape, dtype=F64, generator=generator)
        batches.append((x, x.reshape(8, -1)[:, :3].argmax(1)))
    return model, nn.CrossEntropyLoss(), batches


class DenseKFAC:
    """The published algorithm on full matrices, with the factors of one batch taken from `quadric.KFAC`."""

    def __init__(self, model, loss_fn, damping, weight_decay=0.0, lr=1.0, momentum=None, step_size=None, every=1):
        self.model, self.loss_fn = model, loss_fn
        self.objective = quadric.Objective(model, loss_fn)
        self.damping, self.weight_decay, self.lr = damping, weight_decay, lr
        self.momentum, self.step_size, self.every = momentum, step_size, every
        self.blocks, self.inverse, self.last, self.steps = None, None, None, 0

    def weights(self):
        return torch.cat([p.detach().reshape(-1) for p in self.model.parameters()])

    def factors(self, batch):
        """One list of matrices per block: two for a Kronecker product, else the block itself. Each step draws anew."""
        operator = quadric.KFAC(self.objective, batch, fisher="exact", seed=self.steps)
        found = []
        for block in operator.blocks:
            kronecker = isinstance(block, quadric.operators.Kronecker)
            found.append([block.left.to_dense(), block.right.to_dense()] if kronecker else [block.to_dense()])
        return found, [s.indices for s in operator.selections]

    def inverted(self, index, n):
        whole = torch.zeros(n, n, dtype=F64)
        shift = self.damping + self.weight_decay
        for matrices, where in zip(self.blocks, index, strict=True):
            if len(matrices) == 2:
                a, b = matrices
                pi = math.sqrt((a.trace() / len(a)) / (b.trace() / len(b)))
                a = a + pi * math.sqrt(shift) * torch.eye(len(a), dtype=F64)
                b = b + math.sqrt(shift) / pi * torch.eye(len(b), dtype=F64)
                dense = torch.linalg.inv(torch.kron(a, b))
            else:
                dense = torch.linalg.inv(matrices[0] + shift * torch.eye(len(matrices[0]), dtype=F64))
            whole[where.unsqueeze(1), where] = dense
        return whole

    def step(self, batch):
        w = self.weights()
        g = gradient(self.model, self.loss_fn, batch) + self.weight_decay * w
        c = ggn(self.model, self.loss_fn, batch) + (self.weight_decay + self.damping) * torch.eye(len(w), dtype=F64)
        new, index = self.factors(batch)
        decay = min(0.95, 1 - 1 / (1 + self.steps))
        self.blocks = new if self.blocks is None else [
            [decay * a + (1 - decay) * b for a, b in zip(old, fresh, strict=True)]
            for old, fresh in zip(self.blocks, new, strict=True)
        ]  # fmt: skip
        if self.steps < 3 or self.steps % self.every == 0:
            self.inverse = self.inverted(index, len(w))
        with torch.no_grad():
            self.model(batch[0])  # the one forward that updates BatchNorm's statistics
        direction = -self.inverse @ g
        if self.step_size is not None:
            step = self.step_size * direction + (0 if self.last is None else self.momentum * self.last)
        else:
            v = direction.unsqueeze(1) if self.last is None else torch.stack([direction, self.last], 1)
            step = v @ torch.linalg.solve(v.T @ c @ v, -(v.T @ g))
        self.last = step
        self.steps += 1
        with torch.no_grad():
            sizes = [p.numel() for p in self.model.parameters()]
            for p, s in zip(self.model.parameters(), (self.lr * step).split(sizes), strict=True):
                p.add_(s.view_as(p))


@pytest.mark.parametrize("name", list(PROBLEMS))
@pytest.mark.parametrize(
    "options",
    [{}, {"weight_decay": 0.05, "lr": 0.7}, {"momentum": 0.8, "step_size": 0.1}, {"inverse_interval": 3}],
    ids=["automatic", "weight-decay-and-lr", "fixed", "inverse-every-3"],
)
def test_steps_are_those_of_full_matrices(name, options):
    model, loss_fn, batches = problem(name)
    twin = copy.deepcopy(model)
    objective = quadric.Objective(model, loss_fn)
    given = {"inverse_interval": 1, **options}
    optimizer = KFAC(objective, damping=0.3, adapt_damping=False, fisher="exact", **given)
    reference = {k: v for k, v in given.items() if k != "inverse_interval"}
    dense = DenseKFAC(twin, loss_fn, 0.3, every=given["inverse_interval"], **reference)
    for batch in batches:
        optimizer.step(objective.on(batch))
        dense.step(batch)
        got = torch.cat([p.detach().reshape(-1) for p in model.parameters()])
        assert_close(got, dense.weights(), rtol=1e-8)
    for (key, a), b in zip(model.state_dict().items(), twin.state_dict().values(), strict=True):
        assert torch.equal(a, b) or torch.allclose(a.double(), b.double(), rtol=1e-8), key


@pytest.mark.parametrize("make", [KFAC, EKFAC])
def test_micro_batches_take_the_step_of_the_whole(make):
    """A single batch lends the factors its own pass, several are passed through again."""
    steps = []
    for parts in (1, 2):
        model, loss_fn, batches = problem("mlp", 5)
        objective = quadric.Objective(model, loss_fn)
        optimizer = make(objective, fisher="exact")
        for x, t in batches:
            optimizer.step(objective.on(*zip(x.chunk(parts), t.chunk(parts), strict=True)))
        steps.append(torch.cat([p.detach().reshape(-1) for p in model.parameters()]))
    assert_close(steps[1], steps[0], rtol=1e-8)


def test_some_of_the_parameters_take_their_own_steps():
    """The pass that serves the factors of all layers is cut down to those that move."""
    model, loss_fn, batches = problem("mlp", 5)
    twin = copy.deepcopy(model)
    objective, alone = quadric.Objective(model, loss_fn), quadric.Objective(twin, loss_fn, params=["2.*", "4.*"])
    some, all_there_are = KFAC([*model[2].parameters(), *model[4].parameters()]), KFAC(alone)
    for batch in batches:
        some.step(objective.on(batch))
        all_there_are.step(alone.on(batch))
    for a, b in zip(model.parameters(), twin.parameters(), strict=True):
        assert torch.equal(a, b)


def test_factors_see_the_dropout_of_the_step():
    model = nn.Sequential(nn.Linear(4, 6), nn.Dropout(0.5), nn.Linear(6, 3)).double()
    x, t = torch.randn(8, 4, dtype=F64), torch.arange(8) % 3
    seen = []
    model[2].register_forward_hook(lambda module, args, output: seen.append(args[0].detach()))
    objective = quadric.Objective(model, nn.CrossEntropyLoss())
    optimizer = KFAC(objective, momentum=0.9, step_size=0.1, damping=1.0, adapt_damping=False)
    optimizer.step(objective.on((x, t)))
    (inputs,) = seen
    inputs = torch.cat([inputs, torch.ones(8, 1, dtype=F64)], 1)
    assert_close(optimizer._operator.blocks[1].right.to_dense(), inputs.T @ inputs / 8)


@pytest.mark.parametrize(("make", "size", "share"), [(KFAC, 8, (2.5 * 7 / 8) ** 2), (KFAC, 80, 3.0), (EKFAC, 80, 3.0)])
def test_the_first_damping_is_a_share_of_the_mean_eigenvalue(make, size, share):
    """Three of them, or what the factors' noise asks for: their largest side is 6 + 1."""
    model, loss_fn, batches = problem("mlp", 10)
    batch = tuple(torch.cat(part)[:size] for part in zip(*batches, strict=True))
    objective = quadric.Objective(model, loss_fn)
    operator = {KFAC: quadric.KFAC, EKFAC: quadric.EKFAC}[make](objective, batch, fisher="exact")
    trace = float(operator.to_dense().trace())
    optimizer = make(objective, fisher="exact")
    optimizer.step(objective.on(batch))
    assert optimizer.last_step.damping == pytest.approx(share * trace / operator.shape[0])


class DenseEKFAC(DenseKFAC):
    """The eigenvectors of the averaged factors, and in them the averaged Gauss–Newton diagonals of single examples."""

    def inverted(self, index, n):
        if self.steps < 3 or self.steps % self.refresh == 0:
            eigen = [[torch.linalg.eigh(m) for m in matrices] for matrices in self.blocks]
            self.bases = [torch.kron(a[1], b[1]) for a, b in eigen]
            self.values = [torch.kron(a[0], b[0]) for a, b in eigen]
        decay = min(0.95, 1 - 1 / (1 + self.steps))
        x, t = self.batch
        examples = [ggn(self.model, self.loss_fn, (x[i : i + 1], t[i : i + 1])) for i in range(len(x))]
        whole = torch.zeros(n, n, dtype=F64)
        for i, (basis, where) in enumerate(zip(self.bases, index, strict=True)):
            of_batch = sum((basis.T @ g[where.unsqueeze(1), where] @ basis).diagonal() for g in examples) / len(x)
            self.values[i] = decay * self.values[i] + (1 - decay) * of_batch
            inverse = 1 / (self.values[i] + self.damping + self.weight_decay)
            whole[where.unsqueeze(1), where] = basis @ torch.diag(inverse) @ basis.T
        return whole

    def step(self, batch):
        self.batch = batch
        super().step(batch)


@pytest.mark.parametrize("options", [{}, {"weight_decay": 0.05, "lr": 0.7}], ids=["plain", "weight-decay-and-lr"])
def test_ekfac_steps_are_those_of_full_matrices(options):
    model, loss_fn, batches = problem("mlp")
    twin = copy.deepcopy(model)
    objective = quadric.Objective(model, loss_fn)
    optimizer = EKFAC(objective, damping=0.3, adapt_damping=False, fisher="exact", inverse_interval=4, **options)
    dense = DenseEKFAC(twin, loss_fn, 0.3, **options)
    dense.refresh = 4
    for batch in batches:
        optimizer.step(objective.on(batch))
        dense.step(batch)
        assert_close(torch.cat([p.detach().reshape(-1) for p in model.parameters()]), dense.weights(), rtol=1e-8)


@pytest.mark.parametrize("make", [KFAC, EKFAC])
@pytest.mark.parametrize("name", list(PROBLEMS))
def test_a_saved_state_continues_bit_for_bit(make, name):
    model, loss_fn, batches = problem(name)
    objective = quadric.Objective(model, loss_fn)
    optimizer = make(objective, inverse_interval=3)
    for batch in batches[:5]:
        optimizer.step(objective.on(batch))
    saved = copy.deepcopy((model.state_dict(), optimizer.state_dict()))
    losses = [float(optimizer.step(objective.on(batch))) for batch in batches[5:]]
    other, _, _ = problem(name)
    other.load_state_dict(saved[0])
    second = quadric.Objective(other, loss_fn)
    resumed = make(second, inverse_interval=3)
    resumed.load_state_dict(saved[1])
    assert [float(resumed.step(second.on(batch))) for batch in batches[5:]] == losses
    for a, b in zip(model.parameters(), other.parameters(), strict=True):
        assert torch.equal(a, b)


class Tied(nn.Module):
    """Says what comes two places on in a cycle of words; one weight at both ends, and a bias at one."""

    def __init__(self):
        super().__init__()
        self.table, self.middle = nn.Embedding(9, 6), nn.Linear(6, 6)
        self.head = nn.Linear(6, 9)
        self.head.weight = self.table.weight

    def forward(self, x):
        return self.head(self.middle(self.table(x)).tanh()).transpose(1, 2)


def cycles(count):
    generator = torch.Generator().manual_seed(0)
    starts = [torch.randint(9, (8, 5), generator=generator) for _ in range(count)]
    return [(x, (x + 2) % 9) for x in starts]


@pytest.mark.parametrize("make", [KFAC, EKFAC])
def test_a_tied_model_trains_and_its_saved_state_continues_bit_for_bit(make):
    torch.manual_seed(3)
    model, batches = Tied().double(), cycles(60)
    objective = quadric.Objective(model, nn.CrossEntropyLoss())
    optimizer = make(objective)
    losses = [float(optimizer.step(objective.on(batch))) for batch in batches[:40]]
    assert optimizer.coverage.of("table.weight").parameters == ("table.weight", "head.bias")
    assert losses[-1] < 0.3 * losses[0]
    other = copy.deepcopy(model)
    second = quadric.Objective(other, nn.CrossEntropyLoss())
    resumed = make(second)
    resumed.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    for batch in batches[40:]:
        assert torch.equal(optimizer.step(objective.on(batch)), resumed.step(second.on(batch)))
    for a, b in zip(model.parameters(), other.parameters(), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("make", [KFAC, EKFAC])
def test_a_loss_that_is_not_finite_is_refused_and_leaves_everything(make):
    model, loss_fn, batches = problem("cnn-batch-norm")
    objective = quadric.Objective(model, loss_fn)
    optimizer = make(objective)
    optimizer.step(objective.on(batches[0]))
    before = copy.deepcopy(model.state_dict())
    x, t = batches[1]
    with pytest.warns(quadric.StepRejected, match="the loss is not finite"):
        optimizer.step(objective.on((x * math.inf, t)))
    assert optimizer.last_step.rejected
    assert all(torch.equal(a, b) for a, b in zip(before.values(), model.state_dict().values(), strict=True))


@pytest.mark.parametrize("make", [KFAC, EKFAC])
def test_a_step_refused_after_the_factors_were_updated_takes_them_back_and_saves(make, monkeypatch):
    model, loss_fn, batches = problem("mlp")
    objective = quadric.Objective(model, loss_fn)
    optimizer = make(objective)
    for batch in batches[:5]:
        optimizer.step(objective.on(batch))
    before = copy.deepcopy(optimizer.state_dict()["quadric"]["_curvature_state"]["operator"])
    monkeypatch.setattr("quadric.optim.kfac.Trial.value", lambda *_: math.inf)
    with pytest.warns(quadric.StepRejected, match="the loss after the step is not finite"):
        optimizer.step(objective.on(batches[5]))
    monkeypatch.undo()
    saved = copy.deepcopy(optimizer.state_dict())
    after = saved["quadric"]["_curvature_state"]["operator"]
    assert after["updates"] == before["updates"] == 5
    for key, (weight, mean) in before["factors"]["slopes"].items():
        assert after["factors"]["slopes"][key][0] == weight
        assert torch.equal(after["factors"]["slopes"][key][1], mean)
    resumed = make(objective)
    resumed.load_state_dict(saved)
    start = copy.deepcopy(model.state_dict())
    optimizer.step(objective.on(batches[6]))
    moved = copy.deepcopy(model.state_dict())
    model.load_state_dict(start)
    resumed.step(objective.on(batches[6]))
    assert all(torch.equal(a, b) for a, b in zip(moved.values(), model.state_dict().values(), strict=True))


def test_the_coverage_says_what_each_layer_got():
    model, loss_fn, batches = problem("cnn-batch-norm")
    objective = quadric.Objective(model, loss_fn)
    optimizer = KFAC(objective)
    with pytest.raises(ValueError, match="take one before asking for the coverage"):
        optimizer.coverage  # noqa: B018
    optimizer.step(objective.on(batches[0]))
    assert optimizer.coverage.of("0.weight").form == "kronecker"
    assert optimizer.coverage.of("1.weight").form == "dense"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"damping": -1.0}, "Expected damping to be None"),
        ({"decay": 1.0}, "Expected a decay from 0 to below 1"),
        ({"inverse_interval": 0}, "Expected inverse_interval to be an integer ≥ 1"),
    ],
)
def test_settings_out_of_range_are_refused(settings, message):
    model, loss_fn, _ = problem("mlp")
    with pytest.raises(ValueError, match=message):
        KFAC(quadric.Objective(model, loss_fn), **settings)


def test_checkpointed_attention_counts_its_batch_norm_as_plain_training_does():
    """Reading the projections' inputs runs the block again, on copies of the buffers; its calls are recorded once."""

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.norm, self.attention = nn.BatchNorm1d(5), nn.MultiheadAttention(4, 2, batch_first=True)
            self.head = nn.Linear(4, 3)

        def block(self, x):
            h = self.norm(x)
            return self.attention(h, h, h, need_weights=False)[0]

        def forward(self, x):
            return self.head(checkpoint(self.block, x, use_reentrant=False).mean(1))

    nets = [Net().double() for _ in range(2)]
    nets[1].load_state_dict(nets[0].state_dict())
    batch = torch.randn(6, 5, 4, dtype=F64), torch.arange(6) % 3
    objectives = [quadric.Objective(net, nn.CrossEntropyLoss()) for net in nets]
    objectives[0].on(batch)()
    with quadric.KFAC(objectives[1]).recorded() as calls:
        objectives[1].on(batch)()
    assert len(calls) == 4  # the norm, the two projections, the head; none again in the reverse pass
    nets[1].load_state_dict(nets[0].state_dict())
    nets[1].norm.reset_running_stats()
    optimizer = KFAC(objectives[1], momentum=0.9, step_size=0.1)
    optimizer.step(objectives[1].on(batch))
    for plain, stepped in zip(nets[0].buffers(), nets[1].buffers(), strict=True):
        assert torch.equal(plain, stepped)
    forms = {block.parameters[0]: block.form for block in optimizer.coverage.blocks}
    assert forms["attention.in_proj_weight"] == "kronecker"
