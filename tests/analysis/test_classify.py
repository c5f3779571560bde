"""Kinds of critical points: those known in closed form, small and large, and a network before and after training."""

import math

import pytest
import torch
from sklearn.datasets import load_digits
from torch import nn

import quadric
from quadric import Objective, classify

F64 = torch.float64


def deep_linear(x):
    """½‖W₂W₁ − M‖² with W₁, W₂ 2×2 and M = diag(3, 1)."""
    w1, w2 = x[:4].view(2, 2), x[4:].view(2, 2)
    return 0.5 * (w2 @ w1 - torch.diag(torch.tensor([3.0, 1.0], dtype=x.dtype))).square().sum()


def chain(x):
    """½(x₁x₂x₃ − 1)²: the origin is a saddle with a Hessian of zero."""
    return 0.5 * (x.prod() - 1) ** 2


def rosenbrock(x):
    return (1 - x[0]) ** 2 + 100 * (x[1] - x[0] ** 2) ** 2


def himmelblau(x):
    return (x[0] ** 2 + x[1] - 11) ** 2 + (x[0] + x[1] ** 2 - 7) ** 2


def camel(x):
    u, v = x
    return (4 - 2.1 * u**2 + u**4 / 3) * u**2 + u * v + (-4 + 4 * v**2) * v**2


ROOT3 = math.sqrt(3.0)
# name: (function, point, kind, index)
POINTS = {
    "bowl": (lambda x: x[0] ** 2 + 3 * x[1] ** 2, [0.0, 0.0], "minimum", 0),
    "source's quadratic": (
        lambda x: 1.5 * x[0] ** 2 + 2 * x[0] * x[1] + 3 * x[1] ** 2 + 2 * x[0] - 8 * x[1] + 10,
        [-2.0, 2.0],
        "minimum",
        0,
    ),
    "dome": (lambda x: -(x[0] ** 2) - 3 * x[1] ** 2, [0.0, 0.0], "maximum", 2),
    "x² − y²": (lambda x: x[0] ** 2 - x[1] ** 2, [0.0, 0.0], "saddle", 1),
    "xy": (lambda x: x[0] * x[1], [0.0, 0.0], "saddle", 1),
    "x² − y² away": (lambda x: x[0] ** 2 - x[1] ** 2, [0.3, 0.1], "not stationary", 1),
    "plane": (lambda x: x[0] + 2 * x[1] + 0 * x.square().sum(), [0.0, 0.0], "not stationary", 0),
    "monkey saddle": (lambda x: x[0] ** 3 - 3 * x[0] * x[1] ** 2, [0.0, 0.0], "degenerate", 0),
    "quartic bowl": (lambda x: x[0] ** 4 + x[1] ** 4, [0.0, 0.0], "degenerate", 0),
    "trough": (lambda x: x[0] ** 2 + 0 * x[1], [0.0, 5.0], "degenerate", 0),
    "x² + y³": (lambda x: x[0] ** 2 + x[1] ** 3, [0.0, 0.0], "degenerate", 0),
    "ridge": (lambda x: -(x[0] ** 2) - x[1] ** 4, [0.0, 0.0], "degenerate", 1),
    "constant": (lambda x: 0 * x.square().sum(), [1.0, 2.0], "degenerate", 0),
    "saddle with a flat direction": (lambda x: x[0] ** 2 - x[1] ** 2 + x[2] ** 4, [0.0] * 3, "saddle", 1),
    "index 2": (lambda x: x[0] ** 2 - x[1] ** 2 - 2 * x[2] ** 2, [0.0] * 3, "saddle", 2),
    "circle of minima": (lambda x: (x.square().sum() - 1) ** 2, [1.0, 0.0], "degenerate", 0),
    "top of the hat": (lambda x: (x.square().sum() - 1) ** 2, [0.0, 0.0], "maximum", 2),
    "rosenbrock's minimum": (rosenbrock, [1.0, 1.0], "minimum", 0),
    "rosenbrock's start": (rosenbrock, [-1.2, 1.0], "not stationary", 0),
    "himmelblau's minimum": (himmelblau, [3.0, 2.0], "minimum", 0),
    "six-hump camel's saddle": (camel, [0.0, 0.0], "saddle", 1),
    "cosines' minimum": (lambda x: torch.cos(x).sum(), [math.pi, -math.pi], "minimum", 0),
    "cosines' saddle": (lambda x: torch.cos(x).sum(), [math.pi, 0.0], "saddle", 1),
    "cosines' maximum": (lambda x: torch.cos(x).sum(), [0.0, 2 * math.pi], "maximum", 2),
    "double well": (lambda x: x[0] ** 4 / 4 - x[0] ** 2 / 2 + x[1] ** 2, [0.0, 0.0], "saddle", 1),
    "double well's minimum": (lambda x: x[0] ** 4 / 4 - x[0] ** 2 / 2 + x[1] ** 2, [1.0, 0.0], "minimum", 0),
    "deep linear, origin": (deep_linear, [0.0] * 8, "saddle", 4),
    "deep linear, rank one": (deep_linear, [ROOT3, 0, 0, 0, ROOT3, 0, 0, 0], "saddle", 1),
    "deep linear, solved": (deep_linear, [ROOT3, 0, 0, 1, ROOT3, 0, 0, 1], "degenerate", 0),
    "three factors, origin": (chain, [0.0] * 3, "degenerate", 0),
    "three factors, solved": (chain, [1.0] * 3, "degenerate", 0),
}


@pytest.mark.parametrize("name", POINTS)
@pytest.mark.parametrize("scale", [1.0, 1e-6, 1e6])
def test_points_known_in_closed_form(name, scale):
    fun, point, kind, index = POINTS[name]
    got = classify(Objective.of(lambda x: scale * fun(x), torch.tensor(point, dtype=F64)))
    assert (got.kind, got.index, got.exact) == (kind, index, True)
    assert got.index_range == (index, index)
    assert got.eigenvalues.diff().ge(0).all()
    assert (got.direction is not None) == (index > 0)


def test_the_evidence_is_what_calculus_says():
    """f = x² − y² at (0.3, 0.1): g = (0.6, −0.2), H = diag(2, −2), gᵀ|H|⁻¹g = 0.2."""
    got = classify(Objective.of(lambda x: x[0] ** 2 - x[1] ** 2, torch.tensor([0.3, 0.1], dtype=F64)))
    assert got.gradient_norm == pytest.approx(math.sqrt(0.4))
    assert got.newton_decrement == pytest.approx(math.sqrt(0.2))
    assert got.loss == pytest.approx(0.08)
    assert torch.allclose(got.eigenvalues, torch.tensor([-2.0, 2.0], dtype=F64))
    assert torch.allclose(got.direction, torch.tensor([0.0, 1.0], dtype=F64))  # downhill
    assert got.gradient_noise is None
    assert "not stationary: 1 of 2 eigenvalues negative, from -2 to 2" in got.summary()


@pytest.mark.parametrize("y", [0.1, -0.1])
def test_negative_curvature_is_followed_downhill(y):
    got = classify(Objective.of(lambda x: x[0] ** 2 - x[1] ** 2, torch.tensor([0.3, y], dtype=F64)))
    assert torch.allclose(got.direction, torch.tensor([0.0, math.copysign(1.0, y)], dtype=F64))


def test_far_from_stationary_small_eigenvalues_still_have_signs():
    got = classify(Objective.of(lambda x: 5 * x[0] + x[0] ** 2 - 0.01 * x[1] ** 2, torch.zeros(2, dtype=F64)))
    assert (got.kind, got.index) == ("not stationary", 1)


def linear_network(kept, depth=2, d=3):
    """Linear layers that fit y = diag(3, 2, 1) x on whitened x, at the critical point that has learned `kept` only."""
    singular = torch.tensor([3.0, 2.0, 1.0], dtype=F64)
    model = nn.Sequential(*[nn.Linear(d, d, bias=False) for _ in range(depth)]).double()
    learned = torch.zeros(d, dtype=F64)
    learned[kept] = singular[kept] ** (1 / depth)
    with torch.no_grad():
        for layer in model:
            layer.weight.copy_(torch.diag(learned))
    x = math.sqrt(d) * torch.eye(d, dtype=F64)
    return Objective(model, nn.MSELoss()), (x, x * singular)


@pytest.mark.parametrize("kept", [[], [0], [1], [2], [0, 1], [0, 2], [1, 2]])
def test_saddles_of_a_deep_linear_network(kept):
    """Every critical point that leaves out directions is a strict saddle (Baldi and Hornik 1989; Kawaguchi 2016).

    Near W₂ = W₁ = diag(√s) on the r directions kept, the free units and the directions left out make (d − r)² pairs of
    eigenvalues ±s, and a kept s and a larger one left out make the pair s ± s'.
    """
    got = classify(*linear_network(kept))
    left = [i for i in range(3) if i not in kept]
    assert got.kind == "saddle"
    assert got.index == len(left) ** 2 + sum(i < p for p in kept for i in left)
    assert got.gradient_norm < got.gradient_tolerance


def test_flat_points_of_deep_linear_networks():
    """All learned is a valley of minima; with three layers the origin's Hessian is zero, though it is no minimum."""
    solved = classify(*linear_network([0, 1, 2]))
    assert (solved.kind, solved.index) == ("degenerate", 0)
    assert float(solved.eigenvalues[0]) > -solved.tolerance
    origin = classify(*linear_network([], depth=3))
    assert (origin.kind, origin.index) == ("degenerate", 0)
    assert float(origin.eigenvalues.abs().max()) == 0
    assert classify(*linear_network([0], depth=3)).kind == "degenerate"


def large(values):
    """½ xᵀ diag(d) x in a dimension beyond dense matrices."""
    d = torch.as_tensor(values, dtype=F64)
    return Objective.of(lambda x: 0.5 * (d * x * x).sum(), torch.zeros(len(d), dtype=F64))


LARGE = {
    "minimum": ([*([1.0] * 2990), *range(2, 12)], "minimum"),
    "maximum": ([*([-1.0] * 2990), *range(-12, -2)], "maximum"),
    "saddle": ([-3.0, -2.0, *([1.0] * 2990), *range(2, 10)], "saddle"),
    "small negatives": ([*([-0.1] * 5), *([1.0] * 2995)], "saddle"),
    "flat": ([*([0.0] * 1500), *([1.0] * 1500)], "degenerate"),
    "one zero": ([0.0, *([1.0] * 2990), *range(2, 11)], "degenerate"),
}


@pytest.mark.parametrize("name", LARGE)
def test_large_points(name):
    values, kind = LARGE[name]
    got = classify(large(values))
    d = torch.as_tensor(values, dtype=F64)
    assert (got.kind, got.exact) == (kind, False)
    assert got.index_range[0] <= int((d < 0).sum()) <= got.index_range[1]
    assert abs(got.index - int((d < 0).sum())) <= 0.005 * len(d)
    assert abs(float(got.eigenvalues[0] - d.min())) <= float(got.errors[0])
    assert abs(float(got.eigenvalues[-1] - d.max())) <= float(got.errors[-1])
    if kind == "saddle":
        assert got.direction[d == d.min()].norm() == pytest.approx(1, abs=1e-4)
        assert "between" in got.summary()
    else:
        assert got.direction is None or kind == "maximum"


def test_an_eigensolver_that_does_not_converge_is_told():
    with pytest.warns(quadric.NotConverged, match="products ran out"):
        got = classify(large(torch.linspace(-1, 1, 3000)), max_products=20)
    assert not got.converged
    assert "The eigensolver did not converge, which the errors include: products ran out" in got.summary()
    assert float(got.errors.max()) > 1e-3


def test_what_was_not_ruled_out_is_not_claimed():
    with pytest.warns(quadric.NotConverged):
        got = classify(large(torch.linspace(0, 1, 2500) ** 3), max_products=40)
    assert got.kind == "degenerate"
    assert "how far others may lie beyond them is not known" in got.evidence
    assert "none that is negative was found, which does not rule one out" in got.evidence
    assert "98 %" not in got.evidence


@pytest.mark.parametrize("training", [True, False])
def test_one_fixed_draw_of_dropout_is_said(training):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.Dropout(0.5), nn.Linear(4, 2)).double().train(training)
    x, y = torch.randn(8, 3, dtype=F64), torch.arange(8) % 2
    data = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(x, y), batch_size=4)  # which draws a seed, too
    assert (
        "of one fixed draw, that of seed 0" in classify(Objective(model, nn.CrossEntropyLoss()), data).evidence
    ) == (training)


class Regularised(nn.Module):
    """Cross-entropy of a small network on digits with weight decay: it has minima."""

    def __init__(self, decay=1e-2):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(64, 6), nn.Tanh(), nn.Linear(6, 10)).double()
        self.decay = decay

    def forward(self, x):
        return self.net(x)


@pytest.fixture(scope="module")
def digits():
    images, targets = load_digits(return_X_y=True)
    return torch.as_tensor(images[:300] / 16, dtype=F64), torch.as_tensor(targets[:300])


def test_a_network_before_and_after_training(digits):
    torch.manual_seed(1)
    model = Regularised()

    def loss_fn(outputs, targets):
        decay = sum(p.square().sum() for p in model.parameters())
        return nn.functional.cross_entropy(outputs, targets) + 0.5 * model.decay * decay

    objective = Objective(model, loss_fn)
    before = classify(objective, digits)
    assert before.kind == "not stationary"
    assert before.gradient_noise is None
    assert "No sampling noise: " in before.evidence  # the loss holds parameters
    torch.optim.LBFGS(model.parameters(), max_iter=30).step(objective.on(digits))
    halfway = classify(objective, digits)
    assert halfway.kind == "not stationary"
    assert halfway.loss < before.loss
    assert "The gradient is not zero" in halfway.evidence
    optimizer = torch.optim.LBFGS(
        model.parameters(), max_iter=3000, tolerance_grad=1e-11, tolerance_change=0, history_size=50,
        line_search_fn="strong_wolfe",
    )  # fmt: skip
    optimizer.step(objective.on(digits))
    after = classify(objective, digits)
    assert after.kind == "minimum"
    assert float(after.eigenvalues[0]) == pytest.approx(float(torch.linalg.eigvalsh(dense(objective, digits))[0]))
    assert after.gradient_norm < 1e-7
    assert after.newton_decrement < 1e-5
    assert "minimum: 0 of" in after.summary()


def dense(objective, data):
    """The Hessian by double backward, row by row."""
    parameters = list(objective.model.parameters())
    loss = objective.loss_at(objective.outputs(objective.batch(data)), objective.batch(data))
    slopes = torch.autograd.grad(loss, parameters, create_graph=True)
    flat = torch.cat([s.reshape(-1) for s in slopes])
    rows = [torch.autograd.grad(entry, parameters, retain_graph=True) for entry in flat]
    return torch.stack([torch.cat([r.reshape(-1) for r in row]) for row in rows])


def test_the_sampling_noise_is_the_spread_of_gradients():
    """Linear regression: g_n is known, and the standard error of their mean with it."""
    torch.manual_seed(0)
    model = nn.Linear(3, 1, bias=False).double()
    x, t = torch.randn(50, 3, dtype=F64), torch.randn(50, 1, dtype=F64)
    got = classify(Objective(model, nn.MSELoss()), (x, t))
    each = 2 * (model(x) - t).detach() * x
    want = math.sqrt(float((each - each.mean(0)).square().sum()) / 50 / 49)
    assert got.gradient_noise == pytest.approx(want, rel=1e-6)


def test_it_changes_nothing_and_saves(tmp_path):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.Tanh(), nn.Linear(6, 3))
    data = (torch.randn(20, 4), torch.randint(3, (20,)))
    state = {k: v.clone() for k, v in model.state_dict().items()}
    got = classify(Objective(model, nn.CrossEntropyLoss()), data)
    assert all(torch.equal(state[k], v) for k, v in model.state_dict().items())
    assert all(p.grad is None for p in model.parameters())
    assert got.gradient_noise is None
    assert "No sampling noise: " in got.evidence
    back = type(got).load(got.save(tmp_path / "point.npz"))
    assert torch.equal(back.eigenvalues, got.eigenvalues)
    assert (back.kind, back.index_range, back.evidence) == (got.kind, got.index_range, got.evidence)


def test_refusals():
    at = Objective.of(lambda x: x.square().sum(), torch.tensor([float("nan"), 1.0], dtype=F64))
    with pytest.raises(ValueError, match="Parameter 'x' holds NaN or infinity"):
        classify(at)
    fine = Objective.of(lambda x: x.square().sum(), torch.ones(2, dtype=F64))
    with pytest.raises(ValueError, match="Expected a finite tol ≥ 0, got -1"):
        classify(fine, tol=-1.0)
    with pytest.raises(ValueError, match="Expected a finite gradient_tol ≥ 0, got inf"):
        classify(fine, gradient_tol=math.inf)
    with pytest.raises(TypeError, match=r"Expected a quadric\.Objective"):
        quadric.classify(nn.Linear(2, 2), None)
