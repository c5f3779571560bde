"""Newton, Levenberg–Marquardt, NewtonCG, saddle-free Newton, trust region and quasi-Newton methods against the same
steps done with full matrices."""

import copy

import pytest
import torch

import quadric
from optim.shared import PROBLEMS, flat
from oracles import assert_close
from oracles import newton as dense
from quadric.optim import BFGS, DFP, LBFGS, SR1, LevenbergMarquardt, Newton, NewtonCG, SaddleFreeNewton, TrustRegion


def run_both(problem, make, reference, steps=4, micro=1, rtol=1e-9, groups=None, same=False):
    """Step both and compare weights, loss, λ, reductions and buffers; returns the optimiser and the reference.

    Each step of the reference begins at the optimiser's weights, so that rounding errors do not add up.
    """
    model, loss_fn, batches = PROBLEMS[problem]()
    batches = batches[:1] * len(batches) if same else batches
    twin = copy.deepcopy(model)
    objective = quadric.Objective(model, loss_fn)
    optimizer, twin_steps = make(groups(model) if groups else objective), reference(twin, loss_fn)
    for i in range(0, steps * micro, micro):
        damping = twin_steps.damping.value
        want = twin_steps.step(*batches[i : i + micro])
        got = optimizer.step(objective.on(*batches[i : i + micro]))
        where = f"at step {i // micro}"
        assert_close(flat(model), flat(twin), rtol, f"the weights {where}")
        twin_steps.put(flat(model))
        last = optimizer.last_step
        assert not last.rejected
        assert float(got) == pytest.approx(want, rel=1e-11) == last.loss
        if hasattr(optimizer, "damping") and not twin_steps.adapt:
            assert last.damping == pytest.approx(damping)
        if hasattr(optimizer, "damping"):
            assert optimizer.damping.value == pytest.approx(twin_steps.damping.value, rel=1e-7), f"λ {where}"
        if twin_steps.predicted is not None:
            assert last.predicted_reduction == pytest.approx(twin_steps.predicted, rel=1e-6, abs=1e-12), where
            assert last.actual_reduction == pytest.approx(twin_steps.actual, rel=1e-6, abs=1e-12), where
    for name, buffer in model.named_buffers():
        assert_close(buffer.double(), dict(twin.named_buffers())[name].double(), 1e-9, name)
    return optimizer, twin_steps


# ── Newton ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def blocks(model):
    """Keep the blocks of a matrix that belong to one layer."""
    layers = [name.rpartition(".")[0] for name, p in model.named_parameters() for _ in range(p.numel())]
    mask = torch.tensor([[a == b for b in layers] for a in layers])
    return lambda c: c * mask


def structures(structure):
    return {
        "full": lambda model: lambda c: c,
        "diagonal": lambda model: lambda c: torch.diag(c.diagonal()),
        "block-diagonal": blocks,
        "low-rank": lambda model: lambda c: c,
    }[structure]


NEWTON = [
    ("mlp", "ggn"),
    ("mlp", "empirical-fisher"),
    ("mlp", "hessian"),
    ("mlp-squared-error", "ggn"),
    ("cnn-batch-norm", "ggn"),
    ("cnn-batch-norm", "hessian"),
]


@pytest.mark.parametrize("structure", ["full", "diagonal", "block-diagonal", "low-rank"])
@pytest.mark.parametrize(("problem", "curvature"), NEWTON)
def test_newton_as_given(problem, curvature, structure):
    """w ← w − η [(K + λI)⁻¹ + αI] g; λ beyond the Hessian's negative eigenvalues."""
    options = {"damping": 12.0, "correction": 0.1, "weight_decay": 0.02, "lr": 0.7, "adapt": False}
    run_both(
        problem,
        lambda o: Newton(o, curvature=curvature, structure=structure, rank=1_000, **options),
        lambda m, f: dense.DenseNewton(m, f, curvature, structures(structure)(m), **options),
    )


@pytest.mark.parametrize("structure", ["full", "diagonal", "block-diagonal"])
@pytest.mark.parametrize(("problem", "curvature"), [case for case in NEWTON if case[1] != "hessian"])
@pytest.mark.parametrize("options", [{}, {"damping": 0.5, "correction": 0.5, "weight_decay": 0.02, "lr": 0.9}])
def test_newton_adapts(problem, curvature, structure, options):
    run_both(
        problem,
        lambda o: Newton(o, curvature=curvature, structure=structure, **options),
        lambda m, f: dense.DenseNewton(m, f, curvature, structures(structure)(m), **options),
    )


def test_newton_s_damping_moves_both_ways_in_these_tests():
    def reference(options):
        return lambda m, f: dense.DenseNewton(m, f, "ggn", **options)

    _, falls = run_both("mlp", lambda o: Newton(o, damping=50.0), reference({"damping": 50.0}))
    assert falls.damping.value < 50
    _, rises = run_both("cnn-batch-norm", lambda o: Newton(o, damping=1e-3), reference({"damping": 1e-3}))
    assert rises.damping.value > 1e-3


@pytest.mark.parametrize("adapt", [False, True])
def test_newton_with_the_monte_carlo_fisher(adapt):
    """The matrix is the operator's own, with this step's draws; what is tested is the step."""
    model, loss_fn, batches = PROBLEMS["mlp"]()
    objective = quadric.Objective(model, loss_fn)
    optimizer = Newton(objective, curvature="fisher", damping=1.0, adapt=adapt)
    for i, batch in enumerate(batches[:4]):
        matrix = quadric.Fisher(objective, batch, seed=i).to_dense()
        g = quadric_gradient(model, loss_fn, batch)
        before, damping = flat(model), optimizer.damping.value
        optimizer.step(objective.on(batch))
        if i == 0 or not adapt:
            step = -torch.linalg.solve(matrix + damping * torch.eye(len(g), dtype=g.dtype), g)
            assert_close(flat(model) - before, step, 1e-9)


@pytest.mark.parametrize("fisher", [("ggn", "exact"), ("empirical-fisher", "empirical")])
def test_newton_with_kronecker_factors(fisher):
    curvature, kind = fisher
    model, loss_fn, batches = PROBLEMS["mlp"]()
    objective = quadric.Objective(model, loss_fn)
    optimizer = Newton(objective, curvature=curvature, structure="kronecker", damping=0.3, adapt=False)
    for batch in batches[:3]:
        matrix = quadric.KFAC(objective, batch, fisher=kind).to_dense()
        g = quadric_gradient(model, loss_fn, batch)
        before = flat(model)
        optimizer.step(objective.on(batch))
        assert_close(
            flat(model) - before, -torch.linalg.solve(matrix + 0.3 * torch.eye(len(g), dtype=g.dtype), g), 1e-9
        )


def quadric_gradient(model, loss_fn, batch):
    return dense.gradient(model, loss_fn, batch)


@pytest.mark.parametrize("problem", ["mlp", "mlp-squared-error", "cnn-batch-norm"])
@pytest.mark.parametrize("options", [{}, {"damping": 0.2, "weight_decay": 0.01}, {"damping": 0.2, "adapt": False}])
def test_levenberg_marquardt(problem, options):
    run_both(
        problem, lambda o: LevenbergMarquardt(o, **options), lambda m, f: dense.DenseNewton(m, f, "ggn", **options)
    )


# ── NewtonCG ─────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("problem", ["mlp", "mlp-squared-error", "cnn-batch-norm"])
@pytest.mark.parametrize("curvature", ["ggn", "hessian"])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"damping": 0.3, "weight_decay": 0.02, "lr": 0.8},
        {"damping": 0.3, "adapt": False},
    ],
    ids=["default", "damped", "as-given"],
)
def test_newton_cg(problem, curvature, options):
    run_both(
        problem,
        lambda o: NewtonCG(o, curvature=curvature, max_iterations=7, **options),
        lambda m, f: dense.DenseNewtonCG(m, f, curvature, 7, **options),
        steps=4,
    )


@pytest.mark.parametrize("adapt", [False, True])
def test_newton_cg_starts_from_95_hundredths_of_the_last_solution(adapt):
    """Short steps on one batch: the last solution is still a good start."""
    options = {"damping": 1.0, "lr": 0.2, "adapt": adapt}
    _, reference = run_both(
        "mlp",
        lambda o: NewtonCG(o, max_iterations=3, **options),
        lambda m, f: dense.DenseNewtonCG(m, f, "ggn", 3, **options),
        same=True,
    )
    assert reference.warmed == 3


def test_newton_cg_meets_all_its_ways_in_these_tests():
    """Negative curvature, the iteration limit, a shorter step, an earlier iterate."""
    seen = set()
    for problem, curvature, damping, limit in (
        ("mlp", "hessian", 1e-3, 12),
        ("cnn-batch-norm", "ggn", 1e-3, 12),
        ("cnn-batch-norm", "ggn", 0.3, 40),
    ):
        model, loss_fn, batches = PROBLEMS[problem]()
        reference = dense.DenseNewtonCG(model, loss_fn, curvature, limit, damping=damping)
        for batch in batches[:6]:
            reference.step(batch)
            seen |= set(reference.stopped.split(", "))
    assert {"negative curvature", "limit", "progress", "α < 1", "α = 1", "iterate −0"} <= seen
    assert any(s.startswith("iterate −") and s != "iterate −0" for s in seen)


def test_newton_cg_solves_to_the_damped_newton_step_when_it_may():
    run_both(
        "mlp",
        lambda o: NewtonCG(o, damping=1.0, adapt=False, max_iterations=200, progress=0.0),
        lambda m, f: dense.DenseNewton(m, f, "ggn", damping=1.0, adapt=False),
        steps=4,
    )


def test_newton_cg_with_the_empirical_fisher_s_diagonal():
    options = {"damping": 0.5, "weight_decay": 0.02}
    run_both(
        "mlp",
        lambda o: NewtonCG(o, max_iterations=8, preconditioner="empirical-fisher", **options),
        lambda m, f: dense.DenseNewtonCG(m, f, "ggn", 8, power=0.75, **options),
        steps=5,
    )


@pytest.mark.parametrize(
    "preconditioner",
    [
        lambda c, damping: quadric.linalg.nystrom_preconditioner(c, damping, rank=30),
        lambda c, damping: quadric.inverse(quadric.KFAC(c.objective, c.data), damping),
    ],
    ids=["nystrom", "kfac"],
)
def test_a_preconditioner_of_one_s_own_changes_the_way_not_the_goal(preconditioner):
    run_both(
        "mlp",
        lambda o: NewtonCG(
            o, damping=0.1, adapt=False, max_iterations=300, progress=0.0, preconditioner=preconditioner
        ),
        lambda m, f: dense.DenseNewton(m, f, "ggn", damping=0.1, adapt=False),
        steps=3,
    )


# ── saddle-free Newton, trust region ─────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("problem", ["mlp", "cnn-batch-norm"])
@pytest.mark.parametrize("subspace", [1, 6, 100])
@pytest.mark.parametrize(
    "options",
    [{}, {"damping": 0.3, "weight_decay": 0.02, "lr": 0.8}, {"damping": 1.0, "adapt": False, "weight_decay": 0.02}],
    ids=["default", "damped", "as-given"],
)
def test_saddle_free_newton(problem, subspace, options):
    """A subspace of 100 is the whole space: |H| by all its eigenvalues."""
    run_both(
        problem,
        lambda o: SaddleFreeNewton(o, subspace=subspace, **options),
        lambda m, f: dense.DenseSaddleFree(m, f, subspace, **options),
        steps=4,
    )


@pytest.mark.parametrize("problem", ["mlp", "cnn-batch-norm"])
@pytest.mark.parametrize("curvature", ["hessian", "ggn"])
@pytest.mark.parametrize("exact", [True, False], ids=["exact", "steihaug"])
@pytest.mark.parametrize(
    "options",
    [{}, {"radius": 20.0}, {"radius": 0.3, "weight_decay": 0.02, "lr": 0.8}],
    ids=["default", "wide", "decay"],
)
def test_trust_region(problem, curvature, exact, options):
    optimizer, reference = run_both(
        problem,
        lambda o: TrustRegion(
            o, curvature=curvature, exact_below=1_000 if exact else 1, max_iterations=10, tol=0.1, **options
        ),
        lambda m, f: dense.DenseTrustRegion(m, f, curvature, exact=exact, limit=10, **options),
        steps=4,
    )
    assert optimizer.radius == pytest.approx(reference.radius, rel=1e-6)
    if (problem, curvature, options) == ("cnn-batch-norm", "hessian", {"radius": 20.0}):
        assert reference.attempts > 4, "no step was taken back here"


# ── quasi-Newton ─────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("problem", ["mlp", "mlp-squared-error", "cnn-batch-norm"])
@pytest.mark.parametrize("method", [(BFGS, "bfgs"), (DFP, "dfp"), (SR1, "sr1"), (LBFGS, "bfgs")], ids=lambda m: m[0])
@pytest.mark.parametrize("options", [{}, {"lr": 0.5, "weight_decay": 0.02}], ids=["plain", "decay"])
def test_quasi_newton_without_a_line_search(problem, method, options):
    kind, update = method
    if kind is LBFGS:
        pytest.skip("its initial matrix changes from step to step: see the test against its formula")
    run_both(
        problem,
        lambda o: kind(o, line_search=None, **options),
        lambda m, f: dense.DenseQuasiNewton(m, f, getattr(dense, update), **options),
        steps=6,
    )


@pytest.mark.parametrize("method", [(BFGS, "bfgs"), (DFP, "dfp"), (SR1, "sr1")], ids=lambda m: m[1])
def test_quasi_newton_damps_less_where_the_next_batch_agrees(method):
    """On one batch again and again δ leaves its bounds' upper end."""
    kind, update = method
    _, reference = run_both(
        "mlp",
        lambda o: kind(o, line_search=None),
        lambda m, f: dense.DenseQuasiNewton(m, f, getattr(dense, update)),
        steps=9,
        same=True,
    )
    assert min(reference.shares) < 4


GROUP_LR = {"0": 0.5, "2": 1.0, "4": 0.2}
GROUP_DECAY = {"0": 0.1, "2": 0.0, "4": 0.01}


@pytest.mark.parametrize(
    ("make", "reference"),
    [
        (lambda g: Newton(g), lambda m, f, **o: dense.DenseNewton(m, f, "ggn", **o)),
        (lambda g: NewtonCG(g, max_iterations=12), lambda m, f, **o: dense.DenseNewtonCG(m, f, "ggn", 12, **o)),
        (lambda g: SaddleFreeNewton(g, subspace=6), lambda m, f, **o: dense.DenseSaddleFree(m, f, 6, **o)),
        (lambda g: TrustRegion(g, curvature="ggn"), lambda m, f, **o: dense.DenseTrustRegion(m, f, "ggn", **o)),
        (lambda g: BFGS(g, line_search=None), lambda m, f, **o: dense.DenseQuasiNewton(m, f, dense.bfgs, **o)),
    ],
    ids=["newton", "newton-cg", "saddle-free-newton", "trust-region", "bfgs"],
)
@pytest.mark.parametrize("order", ["024", "402"], ids=["in-order", "shuffled"])
@pytest.mark.parametrize("micro", [1, 2])
def test_groups_and_micro_batches(make, reference, order, micro):
    """η and ω per group in one joint model; several batches are one."""

    def groups(model):
        return [
            {"params": model[int(i)].parameters(), "lr": GROUP_LR[i], "weight_decay": GROUP_DECAY[i]} for i in order
        ]

    run_both(
        "mlp",
        make,
        lambda m, f: reference(m, f, lr=lambda n: GROUP_LR[n[0]], weight_decay=lambda n: GROUP_DECAY[n[0]]),
        steps=4,
        micro=micro,
        groups=groups,
    )


def least_squares_textbook(jacobian, residuals, damping):
    return -torch.linalg.solve(
        jacobian.T @ jacobian + damping * torch.eye(jacobian.shape[1], dtype=jacobian.dtype), jacobian.T @ residuals
    )


def test_levenberg_marquardt_on_residuals_is_the_textbook_s():
    """f = ½‖r‖²: (JᵀJ + λI) s = −Jᵀr, with J from torch's own differentiation."""

    def residuals(x):
        return torch.stack([10 * (x[1] - x[0] ** 2), 1 - x[0], x[0] * x[1] - 0.5])

    x = torch.tensor([-1.2, 1.0], dtype=torch.float64)
    objective = quadric.Objective.of(residuals, x.clone())
    optimizer = LevenbergMarquardt(objective, damping=0.5, adapt=False)
    for _ in range(4):
        at = objective.parameters[0].detach().clone()
        j = torch.autograd.functional.jacobian(residuals, at)
        optimizer.step(objective.on())
        assert_close(objective.parameters[0].detach() - at, least_squares_textbook(j, residuals(at), 0.5), 1e-11)
