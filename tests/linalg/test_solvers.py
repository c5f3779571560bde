"""CG, MINRES and LSMR against dense solutions; what they say of themselves against what is true."""

import pytest
import torch

from operators.suite import F64, orthogonal, random, spd
from oracles import assert_close
from quadric import NotConverged
from quadric.linalg import cg, lsmr, minres, nystrom_preconditioner
from quadric.operators import Dense, Diagonal, Identity, LinearOperator, LowRank, Zero, identity_like


def symmetric(matrix):
    return Dense((matrix + matrix.T) / 2)


def spectrum(values, seed=1):
    q = orthogonal(len(values), seed)
    return symmetric(q @ torch.diag(torch.as_tensor(values, dtype=F64)) @ q.T)


class Counting(LinearOperator):
    """Counts the columns of products."""

    def __init__(self, inner):
        super().__init__(inner.domain, inner.codomain)
        self.inner, self.symmetric, self.count = inner, inner.symmetric, 0
        self.positive_semidefinite = inner.positive_semidefinite

    def _apply(self, x):
        self.count += x.shape[1]
        return self.inner._apply(x)

    def _transpose(self):
        return self.inner.T


INDEFINITE = spectrum([*torch.linspace(-3, -0.5, 15).tolist(), *torch.linspace(0.2, 4, 25).tolist()])
UNSYMMETRIC = Dense(random(40, 40) + 8 * torch.eye(40, dtype=F64))
SYSTEMS = [
    pytest.param(cg, symmetric(spd(40)), id="cg"),
    pytest.param(minres, symmetric(spd(40)), id="minres"),
    pytest.param(minres, INDEFINITE, id="minres-indefinite"),
    pytest.param(lsmr, UNSYMMETRIC, id="lsmr"),
    pytest.param(lsmr, INDEFINITE, id="lsmr-indefinite"),
]


@pytest.mark.parametrize(("solve", "operator"), SYSTEMS)
@pytest.mark.parametrize("columns", [None, 1, 3])
@pytest.mark.parametrize("tol", [1e-3, 1e-6, 1e-11])
def test_the_residual_is_met_and_true(solve, operator, columns, tol):
    counting = Counting(operator)
    b = random(40) if columns is None else random(40, columns)
    result = solve(counting, b, tol=tol)
    assert result.converged
    assert result.reason == "the tolerance was met"
    assert result.solution.shape == b.shape
    residual = b - operator @ result.solution
    assert float((residual.norm(dim=0) / b.norm(dim=0)).max()) == pytest.approx(result.residual, rel=1e-3, abs=1e-15)
    assert result.residual <= tol
    assert operator is INDEFINITE or result.negative_curvature is None
    if solve is not lsmr:  # whose transposed products go past the counter
        assert result.products == counting.count
    if tol < 1e-10:
        assert_close(result.solution, torch.linalg.solve(operator.matrix, b), 1e-8)


@pytest.mark.parametrize(("solve", "operator"), SYSTEMS)
def test_a_zero_right_hand_side(solve, operator):
    result = solve(operator, torch.zeros(40, dtype=F64))
    assert result.converged
    assert result.solution.eq(0).all()
    assert solve(operator, torch.zeros(40, 0, dtype=F64)).solution.shape == (40, 0)
    b = torch.stack([torch.zeros(40, dtype=F64), random(40)], dim=1)
    assert_close(solve(operator, b, tol=1e-10).solution, torch.linalg.solve(operator.matrix, b), 1e-7)


@pytest.mark.parametrize("solve", [cg, minres])
def test_as_many_iterations_as_distinct_eigenvalues(solve):
    operator = spectrum([1.0] * 10 + [2.0] * 10 + [5.0] * 10)
    assert solve(operator, random(30), tol=1e-10).iterations == 3


def test_columns_are_solved_as_they_would_be_alone():
    operator, b = symmetric(spd(30, shift=0.01)), random(30, 3)
    b[:, 1] = operator @ torch.ones(30, dtype=F64)
    together = cg(operator, b, tol=1e-9)
    alone = [cg(operator, column, tol=1e-9) for column in b.unbind(1)]
    assert_close(together.solution, torch.stack([a.solution for a in alone], dim=1), 1e-7)
    assert abs(together.iterations - max(a.iterations for a in alone)) <= 1  # rounding differs


def test_a_start_saves_the_way():
    operator, x = symmetric(spd(30)), random(30)
    assert cg(operator, operator @ x, start=x).iterations == 0
    assert (
        cg(operator, operator @ x, start=x + 1e-5 * random(30, seed=5)).iterations
        < cg(operator, operator @ x).iterations
    )


@pytest.mark.parametrize("columns", [None, 3])
def test_negative_curvature_is_returned(columns):
    b = random(40) if columns is None else random(40, columns)
    with pytest.warns(NotConverged, match="CG stopped after .* a direction of zero or negative curvature was met"):
        result = cg(INDEFINITE, b)
    assert not result.converged
    d = result.negative_curvature
    assert float(d.norm()) == pytest.approx(1.0)
    assert float(d @ (INDEFINITE @ d)) <= 0


@pytest.mark.parametrize("columns", [None, 3])
def test_minres_solves_on_after_it_met_negative_curvature(columns):
    b = random(40) if columns is None else random(40, columns)
    result = minres(INDEFINITE, b, tol=1e-9)
    assert result.converged
    d = result.negative_curvature
    assert d.shape == (40,)
    assert float(d.norm()) == pytest.approx(1.0)
    assert float(d @ (INDEFINITE @ d)) < 0
    assert minres(symmetric(spd(40)), b, tol=1e-9).negative_curvature is None


def test_minres_finds_one_negative_eigenvalue_among_many():
    operator = spectrum([-1e-3, *torch.linspace(0.1, 1, 79).tolist()])
    d = minres(operator, random(80), tol=1e-10).negative_curvature
    assert float(d @ (operator @ d)) < 0


def test_minres_takes_no_rounding_for_negative_curvature():
    singular = spectrum([0.0] * 40 + torch.linspace(0.1, 1, 40).tolist())
    assert minres(singular, singular @ random(80), tol=1e-10).negative_curvature is None


def test_zero_curvature_is_met():
    with pytest.warns(NotConverged, match="zero or negative curvature"):
        result = cg(Zero(Identity(INDEFINITE.space).space), random(40))
    assert result.iterations == 1
    singular = Diagonal(torch.tensor([1.0, 2.0, 0.0], dtype=F64))
    with pytest.warns(NotConverged, match="zero or negative curvature"):
        result = cg(singular, torch.ones(3, dtype=F64))
    assert abs(float(result.negative_curvature[2])) == pytest.approx(1.0)
    assert cg(singular, torch.tensor([1.0, 1.0, 0.0], dtype=F64)).converged  # b is in the range


def test_minres_stops_at_the_least_residual_of_a_singular_system():
    singular = spectrum([0.0, 0.0, -1.0, 1.0, 2.0, 3.0])
    b = random(6)
    with pytest.warns(NotConverged, match="the system is singular, and b is not in its range"):
        result = minres(singular, b, tol=1e-10)
    values, vectors = torch.linalg.eigh(singular.matrix)
    null = vectors[:, values.abs() < 1e-12]
    assert result.residual == pytest.approx(float((null.T @ b).norm() / b.norm()), rel=1e-6)


def test_the_limit_is_reported():
    operator = spectrum(torch.logspace(0, -6, 60))
    for solve, name in ((cg, "CG"), (minres, "MINRES"), (lsmr, "LSMR")):
        with pytest.warns(NotConverged, match=f"{name} stopped after 5 iterations at a relative residual of .* limit"):
            result = solve(operator, random(60), max_iterations=5)
        assert not result.converged
        assert result.iterations == 5
        residual = random(60) - operator @ result.solution
        assert result.residual == pytest.approx(float(residual.norm() / random(60).norm()), rel=1e-6)


def test_ill_conditioned_systems_in_float64():
    operator = spectrum(torch.logspace(0, -8, 80))
    x = random(80)
    for solve in (cg, minres):
        result = solve(operator, operator @ x, tol=1e-10, max_iterations=4_000)
        assert result.converged
        assert result.residual <= 1e-10


def test_float32_says_when_rounding_is_the_limit():
    matrix = spectrum(torch.logspace(0, -4, 60)).matrix.float()
    operator = Dense((matrix + matrix.T) / 2)
    b = random(60).float()
    result = cg(operator, b)
    assert result.converged
    assert result.reason == "the residual is at the rounding error of a product"
    true = torch.linalg.solve(operator.matrix.double(), b.double())
    assert_close(result.solution, true, 1e-2)
    assert result.residual < 1e-3


# ---- preconditioning


def test_the_exact_preconditioner_takes_one_iteration():
    matrix = spd(30)
    operator = symmetric(matrix)
    result = cg(operator, random(30, 2), preconditioner=symmetric(torch.linalg.inv(matrix)), tol=1e-8)
    assert result.iterations <= 2


@pytest.mark.parametrize("seed", range(3))
def test_nystrom_halves_the_products(seed):
    values = 1 / torch.arange(1, 301, dtype=F64) ** 2
    base = spectrum(values, seed=seed)
    base.positive_semidefinite = True
    damping = 1e-3 * float(values[0])
    operator = base + damping * identity_like(base)
    b = random(300, seed=seed)
    plain = cg(operator, b)
    helped = cg(operator, b, preconditioner=nystrom_preconditioner(base, damping, 30, seed=seed))
    assert_close(helped.solution, torch.linalg.solve(operator.to_dense(), b), 1e-4)
    assert helped.iterations < 0.5 * plain.iterations


def test_nystrom_of_a_low_rank_operator_is_exact():
    u = random(50, 4)
    base = LowRank(u, torch.tensor([3.0, 2.0, 1.0, 0.5], dtype=F64))
    p = nystrom_preconditioner(base, 0.1, 6)
    operator = base + 0.1 * identity_like(base)
    smallest = p.to_dense() @ operator.to_dense()
    values = torch.linalg.eigvals(smallest).real
    assert float(values.max() / values.min()) < 1 + 1e-6
    assert p.positive_semidefinite


# ---- least squares


@pytest.mark.parametrize(("m", "n"), [(30, 12), (12, 30)])
@pytest.mark.parametrize("damping", [0.0, 0.5])
def test_least_squares_of_rectangular_systems(m, n, damping):
    operator, b = Dense(random(m, n)), random(m, 2)
    result = lsmr(operator, b, damping=damping, tol=1e-11)
    assert result.converged
    a = operator.matrix
    if damping:
        want = torch.linalg.solve(a.T @ a + damping * torch.eye(n, dtype=F64), a.T @ b)
    else:
        want = torch.linalg.pinv(a) @ b
    assert_close(result.solution, want, 1e-8)


# ---- bad input

REFUSED = [
    (
        lambda: cg(UNSYMMETRIC, random(40)),
        "CG needs a symmetric operator, and this Dense of shape .* is not known to be",
    ),
    (lambda: minres(UNSYMMETRIC, random(40)), "MINRES needs a symmetric operator"),
    (lambda: cg(INDEFINITE, random(41)), "with n = 40, got shape"),
    (lambda: lsmr(Dense(random(3, 4)), random(4)), "with n = 3, got shape"),
    (lambda: cg(INDEFINITE, random(40).float()), "Expected dtype torch.float64"),
    (lambda: cg(INDEFINITE, torch.nan * random(40)), "Expected a right-hand side of finite numbers"),
    (lambda: cg(INDEFINITE, random(40), tol=0), "Expected a relative tolerance between 0 and 1, got 0"),
    (lambda: minres(INDEFINITE, random(40), tol=2.0), "Expected a relative tolerance between 0 and 1, got 2.0"),
    (lambda: lsmr(INDEFINITE, random(40), damping=-1.0), "Expected a finite damping ≥ 0, got -1.0"),
    (
        lambda: cg(INDEFINITE, random(40), preconditioner=Identity(Dense(spd(3)).space)),
        r"Expected a preconditioner of shape \(40, 40\), got \(3, 3\)",
    ),
    (lambda: nystrom_preconditioner(INDEFINITE, 0.1, 3), "Nyström needs a positive semi-definite operator"),
    (lambda: nystrom_preconditioner(Diagonal(torch.ones(4)), 0.1, 5), "Expected a size from 1 to 4, got 5"),
    (lambda: nystrom_preconditioner(Diagonal(torch.ones(4)), 0.0, 2), "Expected a damping > 0"),
]


@pytest.mark.parametrize(("call", "message"), REFUSED)
def test_refusals(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize("solve", [cg, minres, lsmr])
def test_products_that_are_not_finite(solve):
    matrix = torch.eye(3, dtype=F64)
    matrix[0, 0] = torch.inf
    with pytest.raises(ValueError, match="A product of the operator is not finite"):
        solve(Dense(matrix), torch.ones(3, dtype=F64))
