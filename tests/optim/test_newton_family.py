"""How Newton's relatives and the quasi-Newton methods behave: what theory says, refused steps, state, bad input."""

import copy
import warnings

import pytest
import torch
from torch import nn

import quadric
from optim.shared import (
    PROBLEMS,
    Fragile,
    assert_everything_as,
    cnn,
    everything,
    flat,
    mlp,
    seeded,
    stream,
)
from oracles import assert_close
from oracles import newton as dense
from quadric.optim import BFGS, DFP, LBFGS, SR1, LevenbergMarquardt, Newton, NewtonCG, SaddleFreeNewton, TrustRegion

F64 = torch.float64

METHODS = {
    "newton": Newton,
    "levenberg-marquardt": LevenbergMarquardt,
    "newton-cg": NewtonCG,
    "newton-cg-hessian": lambda p, **o: NewtonCG(p, curvature="hessian", **o),
    "saddle-free-newton": SaddleFreeNewton,
    "trust-region": TrustRegion,
    "trust-region-cg": lambda p, **o: TrustRegion(p, exact_below=1, **o),
    "bfgs": BFGS,
    "dfp": DFP,
    "sr1": SR1,
    "lbfgs": LBFGS,
}
every = pytest.mark.parametrize("name", METHODS)
SECANT = {"bfgs": BFGS, "dfp": DFP, "sr1": SR1, "lbfgs": LBFGS}


# ── what theory says ─────────────────────────────────────────────────────────────────────────────────────────────────


def quadratic(n=6, seed=0, start=None):
    """½ xᵀA x − bᵀx with A positive definite, and its minimum."""
    generator = torch.Generator().manual_seed(seed)
    root = torch.randn(n, n, dtype=F64, generator=generator)
    a, b = root @ root.T / n + 0.1 * torch.eye(n, dtype=F64), torch.randn(n, dtype=F64, generator=generator)
    objective = quadric.Objective.of(lambda x: 0.5 * x @ a @ x - b @ x, torch.zeros(n, dtype=F64))
    return objective, a, b, torch.linalg.solve(a, b)


def at(objective):
    return objective.parameters[0].detach().clone()


@pytest.mark.parametrize(
    "make",
    [
        lambda o: Newton(o, curvature="hessian", damping=0.0, adapt=False),
        lambda o: NewtonCG(o, curvature="hessian", damping=0.0, adapt=False),
        lambda o: SaddleFreeNewton(o, damping=0.0, adapt=False),
        lambda o: TrustRegion(o, radius=1e3),
        lambda o: TrustRegion(o, radius=1e3, exact_below=1, tol=1e-12),
    ],
    ids=["newton", "newton-cg", "saddle-free-newton", "trust-exact", "trust-cg"],
)
def test_a_quadratic_is_solved_in_one_step(make):
    objective, _, _, solution = quadratic()
    make(objective).step(objective.on())
    assert_close(at(objective), solution, 1e-10)


def test_levenberg_marquardt_without_damping_solves_linear_least_squares_in_one_step():
    x, t = torch.randn(20, 3, dtype=F64), torch.randn(20, 1, dtype=F64)
    model = nn.Linear(3, 1, bias=False).double()
    objective = quadric.Objective(model, nn.MSELoss())
    LevenbergMarquardt(objective, damping=0.0, adapt=False).step(objective.on((x, t)))
    assert_close(model.weight.detach().T, torch.linalg.lstsq(x, t).solution, 1e-10)


@pytest.mark.parametrize("curvature", ["ggn", "hessian"])
def test_the_correction_alone_is_gradient_descent(curvature):
    model, loss_fn, batches = PROBLEMS["mlp"]()
    objective = quadric.Objective(model, loss_fn)
    optimizer = Newton(objective, curvature=curvature, damping=1e14, correction=0.1, adapt=False)
    sgd = copy.deepcopy(model)
    twin = torch.optim.SGD(sgd.parameters(), lr=0.1)
    for x, t in batches[:5]:
        optimizer.step(objective.on((x, t)))
        twin.zero_grad()
        loss_fn(sgd(x), t).backward()
        twin.step()
        assert_close(flat(model), flat(sgd), 1e-12)


@pytest.mark.parametrize("name", SECANT)
def test_exact_line_searches_on_a_quadratic_make_it_conjugate_gradients(name, monkeypatch):
    """With α = −gᵀp / pᵀA p every iterate is that of CG, and n of them solve it (Nocedal and Wright, theorem 6.4)."""
    from quadric.optim import quasi_newton
    from quadric.optim.line_search import LineSearch

    objective, a, b, solution = quadratic()

    def exact(phi, value, slope, **_):
        curvature = (phi.step @ a @ phi.step).item()
        alpha = -slope / curvature
        reached, there = phi(alpha)
        return LineSearch(alpha, reached, there, True, 1, "")

    monkeypatch.setattr(quasi_newton, "strong_wolfe", exact)
    options = {"memory": 10} if name == "lbfgs" else {}
    optimizer = SECANT[name](objective, line_search="strong-wolfe", **options)
    x, r = torch.zeros_like(b), b.clone()
    p = r.clone()
    for _ in range(len(b)):
        alpha = (r @ r) / (p @ a @ p)
        x, new = x + alpha * p, r - alpha * (a @ p)
        p, r = new + (new @ new) / (r @ r) * p, new
        optimizer.iterations = 1
        optimizer.step(objective.on())
        assert_close(at(objective), x, 1e-6)
    assert_close(at(objective), solution, 1e-7)


def test_sr1_knows_the_inverse_hessian_after_n_independent_steps():
    """Nocedal and Wright, theorem 6.1: whatever the line search."""
    objective, a, _, _ = quadratic(4)
    optimizer = SR1(objective, line_search="strong-wolfe")
    for _ in range(4):
        optimizer.step(objective.on())
    assert_close(optimizer._approximation.to_dense(), torch.linalg.inv(a), 1e-6)


@pytest.mark.parametrize("name", SECANT)
def test_strong_wolfe_holds_at_each_step_on_the_whole_data(name):
    model, loss_fn, batches = PROBLEMS["mlp"]()
    objective, batch = quadric.Objective(model, loss_fn), batches[0]
    optimizer = SECANT[name](objective, weight_decay=0.01)
    optimizer.iterations = 1
    reference = dense.DenseStepper(model, loss_fn, weight_decay=0.01)
    for _ in range(15):
        w, f, g = flat(model), reference.value([batch]), reference.gradient([batch])
        optimizer.step(objective.on(batch))
        s = flat(model) - w
        slope, there = (g @ s).item(), (reference.gradient([batch]) @ s).item()
        assert slope < 0
        assert reference.value([batch]) <= f + 1e-4 * slope + 1e-14
        assert abs(there) <= (0.1 if name == "dfp" else 0.9) * abs(slope) + 1e-14


def test_lbfgs_takes_the_two_loop_recursion_s_direction():
    """Algorithm 7.4 from the steps and gradients seen from outside; H₀ = sᵀy / yᵀy of the latest pair."""
    model, loss_fn, batches = PROBLEMS["mlp"]()
    objective, batch = quadric.Objective(model, loss_fn), batches[0]
    optimizer = LBFGS(objective, memory=3, iterations=1)
    pairs = []
    for i in range(10):
        w, g = flat(model), dense.gradient(model, loss_fn, batch)
        optimizer.step(objective.on(batch))
        s = flat(model) - w
        if pairs:
            q, alphas = g.clone(), []
            for sk, yk in reversed(pairs):
                alphas.append((sk @ q) / (sk @ yk))
                q = q - alphas[-1] * yk
            q = q * (pairs[-1][0] @ pairs[-1][1]) / (pairs[-1][1] @ pairs[-1][1])
            for (sk, yk), alpha in zip(pairs, reversed(alphas), strict=True):
                q = q + sk * (alpha - (yk @ q) / (sk @ yk))
            assert_close(s, -optimizer.last_step.step_size * q, 1e-9, f"step {i}")
        pairs = [*pairs, (s, dense.gradient(model, loss_fn, batch) - g)][-3:]


def test_iterations_of_one_step_are_those_of_several():
    model, loss_fn, batches = PROBLEMS["mlp"]()
    twin = copy.deepcopy(model)
    one, many = quadric.Objective(model, loss_fn), quadric.Objective(twin, loss_fn)
    short, long = LBFGS(one, iterations=1, line_search="strong-wolfe"), LBFGS(many, iterations=4)
    for _ in range(9):
        short.step(one.on(batches[0]))
    for _ in range(3):
        long.step(many.on(batches[0]))  # the first is one iteration: who knows whether the next batch is the same
    assert_close(flat(model), flat(twin), 1e-10)


# ── saddles ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def saddle(start):
    return quadric.Objective.of(lambda x: x[0] ** 2 - x[1] ** 2, torch.tensor(start, dtype=F64))


def steps(make, objective, count, data=()):
    optimizer = make(objective)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", quadric.StepRejected)
        for _ in range(count):
            optimizer.step(objective.on(*data))
    return optimizer


@pytest.mark.parametrize("start", [[1.0, 1e-3], [1e-9, 1e-9], [0.0, 0.0]], ids=["near", "very-near", "at"])
def test_saddle_free_newton_leaves_the_saddle_where_newton_stays(start):
    objective = saddle(start)
    steps(SaddleFreeNewton, objective, 60)
    assert abs(at(objective)[1]) > 0.5
    objective = saddle(start)
    optimizer = steps(lambda o: Newton(o, curvature="hessian", damping=0.0, adapt=False), objective, 0)
    h = torch.diag(torch.tensor([2.0, -2.0], dtype=F64))
    newton = at(objective) - torch.linalg.solve(h, torch.tensor([2.0, -2.0], dtype=F64) * at(objective))
    assert newton.norm() < 1e-12, "Newton's own step leads to the saddle"
    assert optimizer.steps == 0


class DeepLinear(nn.Module):
    def __init__(self, size):
        super().__init__()
        self.w = nn.ParameterList([nn.Parameter(size * torch.randn(3, 3, dtype=F64)) for _ in range(2)])

    def forward(self, x):
        return x @ self.w[0] @ self.w[1]


@pytest.mark.parametrize("size", [1e-4, 0.0], ids=["near", "at"])
def test_saddle_free_newton_leaves_the_saddle_of_a_deep_linear_network(size):
    """At zero the gradient is zero and the Hessian has eigenvalues of both signs; Newton's own step leads there."""
    x = torch.randn(30, 3, dtype=F64)
    batch = (x, x @ torch.randn(3, 3, dtype=F64))
    model = DeepLinear(size)
    objective = quadric.Objective(model, nn.MSELoss())
    h, g = dense.derivatives.hessian(model, nn.MSELoss(), batch), dense.gradient(model, nn.MSELoss(), batch)
    assert torch.linalg.eigvalsh(h)[0] < -0.1
    newton = flat(model) - torch.linalg.solve(h + 1e-300 * torch.eye(18, dtype=F64), g) if size else flat(model)
    assert newton.norm() <= 0.01 * size
    first = objective.evaluate(batch)
    steps(SaddleFreeNewton, objective, 60, [batch])
    assert objective.evaluate(batch) < 0.1 * first


def test_newton_cg_and_trust_region_leave_a_saddle_as_well():
    for make in (lambda o: NewtonCG(o, curvature="hessian"), TrustRegion):
        objective = saddle([1.0, 1e-3])
        steps(make, objective, 30)
        assert abs(at(objective)[1]) > 0.5


# ── refused steps, and steps that must not be refused ────────────────────────────────────────────────────────────────


def fragile(name):
    model, loss_fn = seeded(cnn), Fragile()
    objective = quadric.Objective(model, loss_fn)
    batches = [(x, nn.functional.one_hot(t, 3).double()) for x, t in stream((1, 5, 5), 4)]
    return model, loss_fn, objective, batches, METHODS[name](objective)


@every
@pytest.mark.parametrize("factor", [float("nan"), float("inf"), 1e308], ids=["nan", "inf", "overflow"])
@pytest.mark.parametrize("after", [0, 3])
def test_a_step_that_is_not_finite_is_refused(name, factor, after):
    model, loss_fn, objective, batches, optimizer = fragile(name)
    for batch in batches[:after]:
        optimizer.step(objective.on(batch))
    before = everything(model, optimizer)
    loss_fn.factor = factor
    with pytest.warns(quadric.StepRejected, match=r"(?i)finite|nan|inf"):
        optimizer.step(objective.on(batches[3]))
    assert optimizer.last_step.rejected
    assert_everything_as(before, model, optimizer)
    assert all(p.grad is None for p in model.parameters())
    loss_fn.factor = 1.0
    optimizer.step(objective.on(batches[0]))
    assert not optimizer.last_step.rejected
    assert not torch.equal(model.state_dict()["0.weight"], before[0]["0.weight"])


@every
def test_ten_refusals_in_a_row_raise(name):
    model, loss_fn, objective, batches, optimizer = fragile(name)
    optimizer.step(objective.on(batches[0]))
    before = everything(model, optimizer)
    loss_fn.factor = float("nan")
    for _ in range(9):
        with pytest.warns(quadric.StepRejected):
            optimizer.step(objective.on(batches[1]))
    with pytest.raises(quadric.ConvergenceError, match="10 steps in a row"):
        optimizer.step(objective.on(batches[1]))
    assert_everything_as(before, model, optimizer)


class Trap(nn.Module):
    """A loss that is fine where the model is and not finite elsewhere: every trial step fails."""

    def __init__(self, model):
        super().__init__()
        self.held = [p.detach().clone() for p in model.parameters()]
        self.model = [model]

    def forward(self, y, t):
        same = all(torch.equal(p, q) for p, q in zip(self.model[0].parameters(), self.held, strict=True))
        return nn.functional.cross_entropy(y, t) * (1.0 if same else float("nan"))


@every
def test_a_step_that_no_trial_accepts_leaves_everything_as_it_was(name):
    model = seeded(cnn)
    objective = quadric.Objective(model, Trap(model))
    optimizer = METHODS[name](objective)
    before = everything(model, optimizer)
    with pytest.warns(quadric.StepRejected):
        optimizer.step(objective.on(stream((1, 5, 5), 1)[0]))
    assert_everything_as(before, model, optimizer)


@every
def test_an_error_inside_the_model_changes_nothing(name):
    model, loss_fn, batches = PROBLEMS["mlp"]()
    objective = quadric.Objective(model, loss_fn)
    optimizer = METHODS[name](objective)
    optimizer.step(objective.on(batches[0]))
    before = everything(model, optimizer)
    with pytest.raises((ValueError, RuntimeError), match=r"(?i)shape|size|multiplied|features"):
        optimizer.step(objective.on((torch.randn(8, 5, dtype=F64), batches[0][1])))
    assert_everything_as(before, model, optimizer)
    optimizer.step(objective.on(batches[1]))


@every
@pytest.mark.parametrize("dtype", [torch.float32, F64], ids=str)
def test_the_end_of_a_run_is_not_an_error(name, dtype):
    """Long after convergence, where losses differ by rounding alone, steps are taken or left without a refusal."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(40, 3, generator=generator).to(dtype)
    t = (x @ torch.tensor([[1.0], [2.0], [3.0]]).to(dtype)) + 0.1 * torch.randn(40, 1, generator=generator).to(dtype)
    model = nn.Linear(3, 1).to(dtype)
    objective = quadric.Objective(model, nn.MSELoss())
    optimizer = METHODS[name](objective)
    for _ in range(60):
        optimizer.step(objective.on((x, t)))
    best = torch.linalg.lstsq(torch.cat([x, torch.ones_like(t)], 1).double(), t.double()).solution
    got = torch.cat([model.weight.detach().T, model.bias.detach().view(1, 1)]).double()
    assert_close(got, best, 1e-2)


@pytest.mark.parametrize("name", SECANT)
@pytest.mark.parametrize("mixed", [False, True], ids=["float32", "autocast"])
def test_a_loss_driven_to_nothing_is_not_an_error(name, mixed):
    """Examples that can be told apart: gradients become so small that their squares are zero."""
    model = seeded(mlp).float()
    objective = quadric.Objective(model, nn.CrossEntropyLoss())
    optimizer = METHODS[name](objective)
    x, t = stream((4,), 1, n=12)[0]
    for _ in range(40):
        with torch.autocast("cpu", torch.bfloat16, enabled=mixed):
            loss = optimizer.step(objective.on((x.float(), t)))
    assert loss < 1e-4


# ── state ────────────────────────────────────────────────────────────────────────────────────────────────────────────


@every
def test_state_on_the_whole_data_continues_bit_for_bit(name):
    batch = stream((4,), 1, n=16)[0]
    model = seeded(mlp)
    objective = quadric.Objective(model, nn.CrossEntropyLoss())
    optimizer = METHODS[name](objective)
    for _ in range(4):
        optimizer.step(objective.on(batch))
    weights, state = copy.deepcopy(model.state_dict()), copy.deepcopy(optimizer.state_dict())
    straight = [float(optimizer.step(objective.on(batch))) for _ in range(4)]
    model.load_state_dict(weights)
    other = METHODS[name](objective)
    other.load_state_dict(state)
    kept = copy.deepcopy(state)
    assert [float(other.step(objective.on(batch))) for _ in range(4)] == straight
    assert str(kept) == str(state), "loading shares memory with what was loaded"


# ── bad input ────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda o: Newton(o, curvature="hessian", structure="kronecker"), r"curvature='ggn', 'fisher'"),
        (lambda o: Newton(o, curvature="hesian"), r"Did you mean 'hessian'"),
        (lambda o: Newton(o, structure="diag"), r"Unknown structure 'diag'.*'?diagonal"),
        (lambda o: Newton(o, damping=-1.0), r"damping.*≥ 0, got -1"),
        (lambda o: Newton(o, correction=float("nan")), r"correction.*got nan"),
        (lambda o: Newton(o, adapt=False), r"adapt=False.*give damping="),
        (lambda o: Newton(o, lr=-1.0), r"lr to be a finite number"),
        (lambda o: NewtonCG(o, adapt=False), r"adapt=False.*give damping="),
        (lambda o: NewtonCG(o, max_iterations=0), r"max_iterations to be an integer ≥ 1, got 0"),
        (lambda o: NewtonCG(o, progress=-1.0), r"progress to be a finite number ≥ 0"),
        (lambda o: NewtonCG(o, warm_start=1.5), r"warm_start from 0 to 1, got 1.5"),
        (lambda o: NewtonCG(o, preconditioner="fisher"), r"Unknown preconditioner 'fisher'.*empirical-fisher"),
        (lambda o: NewtonCG(o, curvature="secant"), r"Unknown curvature 'secant'"),
        (lambda o: SaddleFreeNewton(o, subspace=0), r"subspace to be an integer ≥ 1"),
        (lambda o: TrustRegion(o, radius=0.0), r"radius to be None or a finite number > 0"),
        (lambda o: TrustRegion(o, tol=2.0), r"tol between 0 and 1"),
        (lambda o: TrustRegion(o, max_iterations=0), r"max_iterations to be an integer ≥ 1"),
        (lambda o: BFGS(o, memory=0), r"memory=None or a number of pairs"),
        (lambda o: LBFGS(o, line_search="wolfe"), r"Unknown line_search 'wolfe'.*strong-wolfe"),
        (lambda o: LBFGS(o, iterations=0), r"iterations to be an integer ≥ 1"),
        (lambda o: DFP(o, weight_decay=-0.1), r"weight_decay to be a finite number"),
    ],
)
def test_settings_that_make_no_sense(make, told):
    with pytest.raises(ValueError, match=r"(?s)" + told):
        make(quadric.Objective(seeded(mlp), nn.CrossEntropyLoss()))


def test_a_preconditioner_that_is_an_operator_is_told_how_to_come():
    objective = quadric.Objective(seeded(mlp), nn.CrossEntropyLoss())
    with pytest.raises(TypeError, match="lambda C, damping: P"):
        NewtonCG(objective, preconditioner=quadric.GGN(objective, stream((4,), 1)[0]))


def test_the_empirical_fisher_s_diagonal_is_refused_where_examples_meet():
    model, loss_fn, batches = PROBLEMS["cnn-batch-norm"]()
    objective = quadric.Objective(model, loss_fn)
    before = flat(model)
    with pytest.raises(ValueError, match="BatchNorm"):
        NewtonCG(objective, preconditioner="empirical-fisher").step(objective.on(batches[0]))
    assert torch.equal(flat(model), before)


def test_a_model_that_returns_its_own_loss_is_refused_by_ggn_and_taken_by_the_others():
    def objective():
        return quadric.Objective(seeded(lambda: nn.Linear(4, 3)), None, loss_of=lambda out: out.square().mean())

    batch = (torch.randn(6, 4, dtype=F64), torch.zeros(6))
    for name in ("newton", "newton-cg", "levenberg-marquardt"):
        taken = objective()
        with pytest.raises(ValueError, match="no Gauss–Newton matrix"):
            METHODS[name](taken).step(taken.on(batch))
    for name in ("newton-cg-hessian", "saddle-free-newton", "trust-region", "bfgs", "sr1"):
        taken = objective()
        first = taken.evaluate(batch)
        optimizer = METHODS[name](taken)
        for _ in range(5):
            optimizer.step(taken.on(batch))
        assert taken.evaluate(batch) < 0.5 * first, name


def test_steps_do_not_depend_on_the_scale_of_the_loss():
    for name in ("newton", "newton-cg", "saddle-free-newton", "trust-region"):
        ends = []
        for factor in (1.0, 2.0**10):
            model, loss_fn = seeded(mlp), nn.CrossEntropyLoss()
            scaled = quadric.Objective(model, lambda y, t, f=factor, g=loss_fn: f * g(y, t))
            optimizer = METHODS[name](scaled)
            for batch in stream((4,), 5):
                optimizer.step(scaled.on(batch))
            ends.append(flat(model))
        assert_close(ends[1], ends[0], 1e-6, name)
