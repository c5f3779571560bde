"""Steps of AdaHessian, Sophia, SOAP, Shampoo and Muon against their papers' formulas with dense float64 matrices."""

import copy

import numpy as np
import pytest
import torch
from torch import nn

import quadric
from optim.adaptive_problems import F64, NETWORKS, flat, mlp, seeded, stream
from oracles import adaptive, assert_close, gradient, hessian
from quadric.operators import EigenKronecker
from quadric.optim import SOAP, AdaHessian, Muon, Shampoo, Sophia
from quadric.optim.hutchinson import seed_of_step, signs
from quadric.optim.sides import folded

NETWORK = pytest.mark.parametrize("network", NETWORKS)


def problem(network, count=9):
    make, shape = NETWORKS[network]
    return seeded(make), nn.CrossEntropyLoss(), stream(shape, count)


def split(vector, model):
    return [v.numpy() for v in vector.split([p.numel() for p in model.parameters()])]


def apply(model, directions, lr, decay):
    with torch.no_grad():
        for p, d in zip(model.parameters(), directions, strict=True):
            p.mul_(1 - lr * decay).sub_(lr * torch.from_numpy(d).view_as(p))


def compare(network, make, directions, lr=0.01, decay=0.1, rtol=1e-9, steps=9):
    """Step an optimiser and a twin by `directions(optimizer, twin, states, batch, t)`; the weights must agree."""
    model, loss_fn, batches = problem(network, steps)
    twin = copy.deepcopy(model)
    objective = quadric.Objective(model, loss_fn)
    optimizer = make(objective, lr=lr, weight_decay=decay)
    states = [{} for _ in model.parameters()]
    for t, batch in enumerate(batches):
        before = copy.deepcopy(twin)
        value = optimizer.step(objective.on(batch))
        assert float(value) == pytest.approx(float(loss_fn(before(batch[0]), batch[1])), rel=1e-12)
        apply(twin, directions(optimizer, twin, states, batch, t), lr, decay)
        twin(batch[0])  # BatchNorm's statistics, once
        assert_close(flat(model), flat(twin), rtol, f"the weights at step {t}")
        assert all(p.grad is None for p in model.parameters())
    return optimizer


def plain_gradient(model, batch):
    return split(gradient(model, nn.CrossEntropyLoss(), batch), model)


# ── AdaHessian ───────────────────────────────────────────────────────────────────────────────────────────────────────


def probed(model, batch, seed, t):
    """z ∘ Hz with the dense Hessian."""
    z = torch.cat([s.reshape(-1) for s in signs(list(model.parameters()), seed_of_step(seed, t))])
    return split(z * (hessian(model, nn.CrossEntropyLoss(), batch) @ z), model)


@NETWORK
@pytest.mark.parametrize(
    "options",
    [{}, {"hessian_power": 0.5}, {"interval": 3}, {"spatial_average": False}, {"seed": 5, "eps": 1e-2}],
    ids=str,
)
def test_adahessian(network, options):
    betas, eps = (0.9, 0.99), options.get("eps", 1e-4)

    def directions(_, twin, states, batch, t):
        d = probed(twin, batch, options.get("seed", 0), t) if t % options.get("interval", 1) == 0 else None
        return [
            adaptive.adahessian(
                state, g, None if d is None else d[i], tuple(p.shape), betas, eps,
                options.get("hessian_power", 1.0), options.get("spatial_average", True),
            )
            for i, (p, g, state) in enumerate(
                zip(twin.parameters(), plain_gradient(twin, batch), states, strict=True)
            )
        ]  # fmt: skip

    compare(network, lambda o, **k: AdaHessian(o, betas=betas, **options, **k), directions)


def test_adahessian_without_curvature_is_momentum():
    model, loss_fn, batches = problem("mlp")
    objective = quadric.Objective(model, loss_fn)
    optimizer = AdaHessian(objective, lr=0.1, hessian_power=0.0, eps=0.0)
    m, before = np.zeros(flat(model).numel()), flat(model)
    for t, batch in enumerate(batches):
        m = 0.9 * m + 0.1 * gradient(model, loss_fn, batch).numpy()
        optimizer.step(objective.on(batch))
        before = before - 0.1 * torch.from_numpy(m / (1 - 0.9 ** (t + 1)))
        assert_close(flat(model), before, 1e-12)


# ── the probes ───────────────────────────────────────────────────────────────────────────────────────────────────────


def test_signs_are_independent_and_even():
    tensors = [torch.zeros(7, 3), torch.zeros(11), torch.zeros(())]
    drawn = torch.stack([torch.cat([s.reshape(-1) for s in signs(tensors, seed_of_step(0, t))]) for t in range(4000)])
    assert set(drawn.unique().tolist()) == {-1.0, 1.0}
    n = len(drawn)
    assert drawn.mean(0).abs().max() < 4.5 / n**0.5
    products = (drawn.T @ drawn / n).fill_diagonal_(0)
    assert products.abs().max() < 5 / n**0.5
    successive = (drawn[1:] * drawn[:-1]).mean(0)
    assert successive.abs().max() < 4.5 / n**0.5
    assert seed_of_step(0, 1) != seed_of_step(1, 0)


def estimates(optimizer_of, count, exact):
    """The mean of many estimates of a diagonal against the exact one, in standard errors."""
    model, loss_fn, batches = problem("mlp")
    objective = quadric.Objective(model, loss_fn)
    dense = exact(model, loss_fn, batches[0]).diagonal()
    drawn = []
    for seed in range(count):
        optimizer = optimizer_of(objective, seed)
        seen = optimizer._look(objective.on(batches[0]), optimizer._weights(objective))
        drawn.append(torch.cat([d.reshape(-1) for d in seen.diagonal]))
    drawn = torch.stack(drawn)
    error = drawn.std(0) / count**0.5
    z = (drawn.mean(0) - dense) / error.clamp(min=1e-12)
    assert z.abs().max() < 4.7, float(z.abs().max())
    assert 0.5 < z.std() < 1.5
    return drawn


def test_hutchinson_has_the_diagonal_for_its_mean():
    drawn = estimates(lambda o, seed: AdaHessian(o, seed=seed), 600, hessian)
    model, loss_fn, batches = problem("mlp")
    dense = hessian(model, loss_fn, batches[0])
    variance = dense.square().sum(1) - dense.diagonal().square()
    ratio = drawn.var(0) / variance.clamp(min=1e-12)
    assert 0.9 < ratio[variance > 1e-9].median() < 1.1  # signs: Σ_{j≠i} H_ij², half of what normal probes have


def test_gauss_newton_bartlett_has_the_diagonal_for_its_mean():
    from oracles import ggn

    drawn = estimates(lambda o, seed: Sophia(o, estimator="gnb", seed=seed), 600, ggn)
    assert (drawn >= 0).all()


@pytest.mark.parametrize("loss", ["mse", "bce", "weighted"])
def test_gauss_newton_bartlett_of_other_likelihoods(loss):
    from oracles import ggn

    model, _, batches = problem("mlp")
    x, t = batches[0]
    loss_fn, targets = {
        "mse": (nn.MSELoss(), nn.functional.one_hot(t, 3).double()),
        "bce": (nn.BCEWithLogitsLoss(), nn.functional.one_hot(t, 3).double()),
        "weighted": (nn.CrossEntropyLoss(torch.tensor([1.0, 2.0, 0.5], dtype=F64), ignore_index=1), t),
    }[loss]
    objective = quadric.Objective(model, loss_fn)
    dense = ggn(model, loss_fn, (x, targets)).diagonal()
    drawn = []
    for seed in range(400):
        optimizer = Sophia(objective, seed=seed)
        seen = optimizer._look(objective.on((x, targets)), optimizer._weights(objective))
        drawn.append(torch.cat([d.reshape(-1) for d in seen.diagonal]))
    drawn = torch.stack(drawn)
    z = (drawn.mean(0) - dense) / (drawn.std(0) / 20).clamp(min=1e-12)
    assert z.abs().max() < 5


# ── Sophia ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def bartlett(model, batch, t):
    """B ĝ ∘ ĝ with ĝ the gradient of the mean loss at drawn labels."""
    twin = copy.deepcopy(model)
    outputs = twin(batch[0])
    generator = torch.Generator().manual_seed(seed_of_step(0, t))
    labels = torch.multinomial(outputs.detach().softmax(1), 1, generator=generator).squeeze(1)
    slopes = torch.autograd.grad(nn.functional.cross_entropy(outputs, labels), list(twin.parameters()))
    return [len(labels) * s.reshape(-1).numpy() ** 2 for s in slopes]


@NETWORK
@pytest.mark.parametrize("estimator", ["gnb", "hutchinson"])
@pytest.mark.parametrize("gamma", [None, 5.0], ids=["paper", "rarely-clipped"])
def test_sophia(network, estimator, gamma):
    def directions(_, twin, states, batch, t):
        h = None
        if t % 3 == 0:
            h = bartlett(twin, batch, t) if estimator == "gnb" else probed(twin, batch, 0, t)
        scale = gamma or {"gnb": 0.05, "hutchinson": 0.01}[estimator]
        return [
            adaptive.sophia(state, g, None if h is None else h[i], (0.9, 0.95), 1e-12, scale)
            for i, (g, state) in enumerate(zip(plain_gradient(twin, batch), states, strict=True))
        ]

    compare(
        network,
        lambda o, **k: Sophia(o, betas=(0.9, 0.95), estimator=estimator, gamma=gamma, interval=3, **k),
        directions,
    )


def test_sophia_that_clips_everything_is_the_sign_of_momentum():
    model, loss_fn, batches = problem("mlp")
    objective = quadric.Objective(model, loss_fn)
    optimizer = Sophia(objective, lr=0.01, gamma=0.0, eps=0.0)
    m = torch.zeros_like(flat(model))
    for batch in batches:
        m = 0.965 * m + 0.035 * gradient(model, loss_fn, batch)
        before = flat(model)
        optimizer.step(objective.on(batch))
        assert_close(flat(model), before - 0.01 * m.sign(), 1e-12)


def test_sophia_that_clips_nothing_is_momentum_over_curvature():
    model, loss_fn, batches = problem("mlp")
    objective = quadric.Objective(model, loss_fn)
    optimizer = Sophia(objective, lr=0.01, gamma=1e6, eps=1e-30, betas=(0.0, 0.0), interval=1)
    h = torch.cat([torch.from_numpy(v) for v in bartlett(model, batches[0], 0)])
    g, before = gradient(model, loss_fn, batches[0]), flat(model)
    optimizer.step(objective.on(batches[0]))
    curved = h > 1e-9
    assert_close((before - flat(model))[curved], (0.01 * g / (1e6 * h))[curved], 1e-5)


def test_sophia_without_a_likelihood():
    model, _, batches = problem("mlp")
    x, t = batches[0]
    objective = quadric.Objective(model, nn.SmoothL1Loss())
    batch = (x, nn.functional.one_hot(t, 3).double())
    with pytest.raises(ValueError, match=r'estimator="hutchinson"'):
        Sophia(objective, estimator="gnb").step(objective.on(batch))
    before = flat(model)
    Sophia(objective).step(objective.on(batch))
    assert not torch.equal(before, flat(model))


# ── SOAP ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


@NETWORK
@pytest.mark.parametrize(
    "options",
    [{}, {"interval": 6}, {"interval": 7, "vectors": True}, {"interval": 2, "max_dim": 5}],
    ids=str,
)
def test_soap(network, options):
    """The refreshes wait until the second moments have full rank (but for one dimension): before, Q is not unique."""
    betas, interval, max_dim = (0.9, 0.95), options.get("interval", 10), options.get("max_dim", 1024)

    def directions(optimizer, twin, states, batch, t):
        out = []
        for p, own, g, state in zip(
            twin.parameters(), optimizer.param_groups[0]["params"], plain_gradient(twin, batch), states, strict=True
        ):
            shape = folded(p.shape, max_dim)
            if t == 0:
                state["first"] = [first_basis(optimizer, own, g, shape, i) for i in range(len(shape))]
            out.append(adaptive.soap(state, g, shape, betas, 1e-8, interval, state["first"]))
        return out

    compare(network, lambda o, **k: SOAP(o, betas=betas, **options, **k), directions, steps=16)


def first_basis(optimizer, p, g, shape, side):
    """The optimiser's first basis, since eigenvectors of a rank-deficient matrix are not unique; they must be some."""
    q = optimizer.state[p].get(f"basis_{side}")
    if q is None:
        assert shape[side] > optimizer.max_dim or (len(shape) == 1 and not optimizer.vectors)
        return None
    u = adaptive.unfold(g.reshape(shape), side)
    values = np.linalg.eigvalsh(u @ u.T)
    q = q.numpy().copy()
    rotated = q.T @ (u @ u.T) @ q
    assert np.allclose(q.T @ q, np.eye(len(q)), atol=1e-12)
    assert np.allclose(rotated, np.diag(values[::-1]), atol=1e-12 * max(values[-1], 1e-3))
    return q


def test_soap_s_step_is_an_eigen_kronecker_product():
    model, loss_fn, batches = problem("mlp")
    objective = quadric.Objective(model, loss_fn)
    optimizer = SOAP(objective, lr=0.01, betas=(0.0, 0.95), interval=100)
    for batch in batches[:4]:
        optimizer.step(objective.on(batch))
    w = model[0].weight
    before, g = w.detach().clone(), gradient(model, loss_fn, batches[4])[: w.numel()]
    optimizer.step(objective.on(batches[4]))
    state = optimizer.state[w]
    v = state["square"] / (1 - 0.95**5)
    inverse_root = EigenKronecker(state["basis_0"], state["basis_1"], 1 / (v.sqrt() + 1e-8))
    assert_close((before - w.detach()).reshape(-1), 0.01 * (inverse_root @ g), 1e-10)


@NETWORK
def test_soap_without_rotation_is_adam(network):
    model, loss_fn, batches = problem(network)
    twin = copy.deepcopy(model)
    objective = quadric.Objective(model, loss_fn)
    optimizer = SOAP(objective, lr=0.01, betas=(0.9, 0.99), weight_decay=0.1, max_dim=0)
    adamw = torch.optim.AdamW(twin.parameters(), lr=0.01, betas=(0.9, 0.99), weight_decay=0.1)
    for batch in batches:
        optimizer.step(objective.on(batch))
        adamw.zero_grad()
        loss_fn(twin(batch[0]), batch[1]).backward()
        adamw.step()
        assert_close(flat(model), flat(twin), 1e-11)


def test_bases_stay_orthonormal_and_converge():
    """Orthogonal iteration on one batch, seen again and again with tiny steps, diagonalises the second moments."""
    model, loss_fn, batches = problem("mlp")
    objective = quadric.Objective(model, loss_fn)
    optimizer = SOAP(objective, lr=1e-9, interval=1)
    for i in range(400):
        optimizer.step(objective.on(batches[i % len(batches)]))
    for w in (model[0].weight, model[2].weight):
        state = optimizer.state[w]
        for i in (0, 1):
            q, moment = state[f"basis_{i}"], state[f"moment_{i}"]
            assert_close(q.T @ q, torch.eye(len(q), dtype=F64), 1e-12)
            inside = q.T @ moment @ q
            assert (inside - torch.diag(inside.diagonal())).norm() < 0.15 * inside.norm()


# ── Shampoo ──────────────────────────────────────────────────────────────────────────────────────────────────────────


@NETWORK
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"interval": 1, "graft": None, "betas": (0.0, 1.0)},
        {"interval": 3, "graft": "sgd"},
        {"interval": 2, "max_dim": 5},
        {"interval": 2, "max_dim": 0, "graft": None},
    ],
    ids=str,
)
def test_shampoo(network, options):
    betas, max_dim = options.get("betas", (0.9, 0.95)), options.get("max_dim", 1024)

    def directions(_, twin, states, batch, t):
        out = []
        for p, g, state in zip(twin.parameters(), plain_gradient(twin, batch), states, strict=True):
            shape = folded(p.shape, max_dim)
            sides = [i for i, n in enumerate(shape) if n <= max_dim]
            arguments = (betas, 1e-6, options.get("interval", 10), sides, options.get("graft", "adam"))
            out.append(adaptive.shampoo(state, g, shape, *arguments))
        return out

    compare(network, lambda o, **k: Shampoo(o, **{"betas": betas, **options}, **k), directions)


def test_shampoo_on_a_vector_is_full_matrix_adagrad():
    """w ← w − η (Σ ggᵀ + ε λ_max I)^{−1/2} g."""
    model = nn.Linear(3, 1, bias=False).double()
    x, t = torch.randn(4, 6, 3, dtype=F64), torch.randn(4, 6, 1, dtype=F64)
    objective = quadric.Objective(model, nn.MSELoss())
    optimizer = Shampoo(objective, lr=0.1, betas=(0.0, 1.0), interval=1, graft=None)
    total = torch.zeros(3, 3, dtype=F64)
    for batch in zip(x, t, strict=True):
        g, before = gradient(model, nn.MSELoss(), batch), flat(model)
        total += torch.outer(g, g)
        optimizer.step(objective.on(batch))
        values, vectors = torch.linalg.eigh(total)
        root = vectors @ torch.diag((values.clamp(min=0) + 1e-6 * values[-1]) ** -0.5) @ vectors.T
        assert_close(flat(model), before - 0.1 * root @ g, 1e-10)


@pytest.mark.parametrize("scale", [1e-3, 1e3])
def test_shampoo_does_not_see_the_scale_of_the_loss(scale):
    def run(make, factor):
        model, loss_fn, batches = problem("mlp")
        objective = quadric.Objective(model, lambda y, t: factor * loss_fn(y, t))
        optimizer = make(objective)
        for batch in batches:
            optimizer.step(objective.on(batch))
        return flat(model)

    assert_close(run(lambda o: Shampoo(o, lr=0.01), scale), run(lambda o: Shampoo(o, lr=0.01), 1.0), 1e-3)


@pytest.mark.parametrize(
    ("shape", "max_dim", "want"),
    [
        ((), 10, [1]),
        ((7,), 10, [7]),
        ((3, 4), 10, [3, 4]),
        ((32, 16, 5, 5), 1024, [32, 400]),
        ((32, 16, 5, 5), 100, [32, 16, 25]),
        ((32, 16, 5, 5), 4, [32, 16, 5, 5]),
        ((8, 1, 3, 3), 1024, [8, 9]),
        ((1, 8), 1024, [8]),
    ],
)
def test_folded(shape, max_dim, want):
    assert folded(shape, max_dim) == want


# ── Muon ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def quintic(sigma):
    for _ in range(5):
        sigma = 3.4445 * sigma - 4.7750 * sigma**3 + 2.0315 * sigma**5
    return sigma


@NETWORK
@pytest.mark.parametrize("nesterov", [True, False])
def test_muon(network, nesterov):
    """Newton–Schulz acts on the singular values alone; vectors take AdamW's steps."""
    model, loss_fn, batches = problem(network)
    twin = copy.deepcopy(model)
    objective = quadric.Objective(model, loss_fn)
    optimizer = Muon(objective, lr=0.01, weight_decay=0.1, nesterov=nesterov)
    vectors = [p for p in twin.parameters() if p.dim() < 2]
    adamw = torch.optim.AdamW(vectors, lr=0.01, weight_decay=0.1)
    momenta = {p: torch.zeros_like(p) for p in twin.parameters() if p.dim() >= 2}
    for batch in batches:
        optimizer.step(objective.on(batch))
        adamw.zero_grad()
        loss_fn(twin(batch[0]), batch[1]).backward()
        adamw.step()
        for p, b in momenta.items():
            b.mul_(0.95).add_(0.05 * p.grad)
            matrix = (0.05 * p.grad + 0.95 * b if nesterov else b).flatten(1)
            u, s, v = torch.linalg.svd(matrix, full_matrices=False)
            step = u @ torch.diag(quintic(s / s.norm())) @ v
            with torch.no_grad():
                p.mul_(1 - 0.001).sub_(0.01 * max(matrix.shape) ** 0.5 * step.view_as(p))
        twin.zero_grad()
        assert_close(flat(model), flat(twin), 1e-9)


def test_muon_s_groups():
    table = nn.Sequential(nn.Embedding(5, 4), nn.Linear(4, 3))
    objective = quadric.Objective(table, nn.CrossEntropyLoss())
    matrices, rest = Muon(objective).param_groups
    assert matrices["orthogonal"]
    assert [id(p) for p in matrices["params"]] == [id(table[1].weight)]
    assert [id(p) for p in rest["params"]] == [id(table[0].weight), id(table[1].bias)]
    body, head = mlp()[:4], nn.Linear(5, 3)
    groups = [{"params": body.parameters()}, {"params": head.parameters(), "orthogonal": False, "lr": 0.5}]
    assert [(len(g["params"]), g["orthogonal"], g["lr"]) for g in Muon(groups).param_groups] == [
        (2, True, 1e-3),
        (2, False, 1e-3),
        (2, False, 0.5),
    ]
    with pytest.raises(ValueError, match=r"shape \[3\].*orthogonal"):
        Muon([{"params": head.parameters(), "orthogonal": True}])


def test_muon_is_close_to_torch_s():
    """torch's works in bfloat16 and has another factor for the rate."""
    if not hasattr(torch.optim, "Muon"):
        pytest.skip("this torch has no Muon")
    w = nn.Parameter(torch.randn(8, 8, dtype=torch.float32))
    twin = nn.Parameter(w.detach().clone())
    ours, theirs = Muon([w], lr=0.01, weight_decay=0.1), torch.optim.Muon([twin], lr=0.01 * 8**0.5, weight_decay=0.0)
    for i in range(5):
        w.grad = torch.randn(8, 8, generator=torch.Generator().manual_seed(i))
        twin.grad = w.grad.clone()
        ours.step()
        with torch.no_grad():
            twin.mul_(1 - 0.001)
        theirs.step()
    assert_close(w, twin, 0.03)
