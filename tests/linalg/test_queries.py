"""Diagonal, trace, log-determinant, square root and samples of operators whose structure does not help."""

import math

import pytest
import torch

from linalg.opaque import F64, Opaque, large
from operators.suite import orthogonal, random, spd
from oracles import assert_close
from quadric import ConvergenceError, NotConverged, claim_symmetric
from quadric.linalg import diagonal, inverse, lanczos, logdet, sample_normal, square_root, trace
from quadric.linalg.diagpp import diagpp
from quadric.linalg.hutchpp import hutchpp
from quadric.linalg.logdet import aitken
from quadric.operators import (
    BlockDiagonal,
    Dense,
    Diagonal,
    Identity,
    Kronecker,
    LowRank,
    NotPositiveDefinite,
    identity_like,
)

N = 2_400


def matrix_with(values, seed=1):
    q = orthogonal(len(values), seed)
    matrix = q @ torch.diag(torch.as_tensor(values, dtype=F64)) @ q.T
    return (matrix + matrix.T) / 2


# ---- diagonal and trace


def test_a_small_diagonal_is_exact_and_costs_n_products():
    operator = Opaque(Dense(spd(30)))
    got = diagonal(operator)
    assert_close(got.values, spd(30).diagonal())
    assert got.exact
    assert operator.columns == 30


def test_a_large_diagonal_is_estimated_with_a_true_standard_error():
    operator, low, spread = large([5.0, 3.0], N)
    want = diagonal(low).values + spread
    got = diagonal(operator, products=60)
    assert not got.exact
    assert operator.columns == 60
    assert "estimated, standard error up to" in repr(got)
    z = (got.values - want) / got.standard_error.clamp_min(1e-12)
    assert z.square().mean().sqrt() == pytest.approx(1, abs=0.25)


def test_the_standard_errors_hold_over_seeds():
    """z of independent estimates has the spread of a Student's t."""
    matrix = matrix_with(1 / torch.arange(1, 61, dtype=F64))
    operator = Dense(matrix)
    totals = [hutchpp(operator, products=45, seed=s) for s in range(120)]
    z = torch.tensor([(t.estimate - float(matrix.trace())) / t.standard_error for t in totals])
    assert abs(float(z.mean())) < 4 * 1.2 / 120**0.5
    assert 0.85 < float(z.square().mean().sqrt()) < 1.4
    rows = [diagpp(operator, products=45, seed=s) for s in range(120)]
    z = torch.stack([(d.values - matrix.diagonal()) / d.standard_error for d in rows])
    assert float(z.mean(0).abs().max()) < 4.5 * 1.2 / 120**0.5
    assert 0.9 < float(z.square().mean().sqrt()) < 1.3


def test_estimates_of_sums_take_the_exact_parts_exactly():
    operator, low, spread = large([5.0], N)
    half = 2 * Opaque(low) + Diagonal(spread)
    got = diagonal(half, products=12)
    assert_close(got.values, 2 * diagonal(low).values + spread, 1e-9)  # rank 1 lies in the sketch
    total = trace(half, products=12)
    assert total.estimate == pytest.approx(10 + float(spread.sum()), rel=1e-9)
    inside = trace(3 * operator + identity_like(operator))
    assert abs(inside.estimate - 3 * (5 + float(spread.sum())) - N) <= 4 * inside.standard_error
    assert inside.standard_error > 0
    assert inside.products == 99


def test_a_matrix_is_not_needed_to_be_symmetric():
    operator = Opaque(Dense(random(150, 150) + torch.diag(torch.arange(150, dtype=F64))))
    got = trace(operator)
    assert abs(got.estimate - float(operator.inner.matrix.trace())) <= 4 * got.standard_error
    assert_close(diagonal(operator).values, operator.inner.matrix.diagonal())


def test_blocks_answer_each_for_itself():
    operator, _low, spread = large([5.0], N)
    blocks = BlockDiagonal([Dense(spd(4)), operator])
    got = diagonal(blocks, products=30)
    assert got.products == operator.columns == 30
    assert_close(got.values[:4], spd(4).diagonal())
    assert got.standard_error[:4].eq(0).all()
    assert got.standard_error[4:].gt(0).any()
    total = trace(blocks, products=30)
    assert abs(total.estimate - float(spd(4).trace()) - 5 - float(spread.sum())) <= 5 * total.standard_error


def test_kronecker_products_of_estimates_bound_their_error():
    a, b = random(3).abs(), random(2).abs()
    rough = Kronecker(Diagonal(a, None, 0.1 * a, products=7, converged=False), Diagonal(b, None, 0.1 * b, products=8))
    got = diagonal(rough)
    assert (got.exact, got.products, got.converged) == (False, 15, False)
    assert not trace(rough).converged
    assert_close(got.standard_error, 0.21 * got.values, 1e-10)


# ---- log-determinant


def test_a_large_logdet_is_estimated():
    operator, low, spread = large([50.0, 20.0], N)
    core = torch.diag(1 / low.values) + low.vectors.T @ (low.vectors / spread.unsqueeze(1))
    want = float(spread.log().sum() + torch.logdet(core) + low.values.log().sum())
    got = logdet(operator, probes=20, steps=15)
    assert abs(got.estimate - want) <= 4 * got.standard_error
    assert got.standard_error < 0.01 * abs(want)
    assert got.products == operator.columns == 300
    with pytest.raises(NotPositiveDefinite, match="is not positive definite"):
        logdet(operator - 1.5 * identity_like(operator), probes=2, steps=15)


@pytest.mark.parametrize("rotated", [False, True])
def test_what_the_quadrature_of_an_ill_conditioned_logdet_leaves_is_in_its_error(rotated):
    values = torch.logspace(-8, 0, 2001, dtype=F64)
    u = torch.nn.functional.normalize(random(2001, 1), dim=0)

    class Turned(Opaque):
        def _apply(self, x):
            turn = (lambda y: y - 2 * u @ (u.T @ y)) if rotated else (lambda y: y)
            return turn(values[:, None] * turn(x))

    operator = claim_symmetric(Turned(Diagonal(values)))
    want = float(values.log().sum())
    for steps in (20, 50):
        got = logdet(operator, probes=4, steps=steps)
        assert not got.exact
        assert got.standard_error < abs(want)
        assert abs(got.estimate - want) <= 2 * got.standard_error
    with pytest.warns(NotConverged, match="raise max_probes, steps, the damping or tol"):
        assert not logdet(operator, probes=2, steps=10, tol=1e-3).converged
    damped = logdet(operator, 0.1, probes=4, steps=10, tol=0.01)
    assert damped.converged
    assert damped.estimate == pytest.approx(float((values + 0.1).log().sum()), rel=0.02)


def test_aitkens_rule():
    assert aitken(4.0, 2.0, 0.0) == 2.0  # 4 + 2 + 1 + 1/2 + …
    assert aitken(1.0, 1e-13, 1e-12) == 1e-13
    assert aitken(1.0, 1.5, 0.1) == math.inf


def test_logdet_takes_multiples_and_shifts_apart():
    matrix = spd(6)
    operator = 3 * Opaque(Dense(matrix)) + 0.5 * Identity(Dense(matrix).space)
    operator.symmetric = True
    want = torch.logdet(3 * matrix + 0.75 * torch.eye(6, dtype=F64))
    assert logdet(operator, 0.25).estimate == pytest.approx(float(want))
    assert logdet(2 * Identity(Dense(matrix).space)).estimate == pytest.approx(6 * float(torch.tensor(2.0).log()))
    with pytest.raises(ValueError, match="logdet takes a symmetric operator"):
        logdet(Opaque(Dense(random(3, 3))))
    with pytest.raises(ValueError, match="Expected at least 2 probes and 4 steps, got 1 and 50"):
        logdet(operator, probes=1)


# ---- square roots and samples


def structures():
    k = Kronecker(spd(2), spd(3, seed=2))
    return {
        "dense": Dense(spd(6)),
        "diagonal": Diagonal(random(6).abs()),
        "low rank": LowRank(random(6, 2), torch.ones(2, dtype=F64)),
        "kronecker": k,
        "blocks": BlockDiagonal([Dense(spd(2)), Diagonal(random(4).abs())]),
        "opaque": Opaque(Dense(spd(6) / 2 + spd(6).T / 2)),
    }


@pytest.mark.parametrize("name", structures())
def test_samples_have_the_covariance_of_the_inverse(name):
    posterior = inverse(structures()[name], 0.5)
    want = posterior.to_dense()
    samples = sample_normal(posterior, 20_000, generator=torch.Generator().manual_seed(3))
    assert samples.shape == (6, 20_000)
    got = samples @ samples.T / 20_000
    error = ((want.diagonal().outer(want.diagonal()) + want**2) / 20_000).sqrt()
    assert ((got - want).abs() / error).max() < 4.5
    assert sample_normal(posterior, generator=torch.Generator().manual_seed(3)).shape == (6,)


def test_a_large_operator_without_structure_has_no_square_root():
    operator, _, _ = large([1.0], N)
    with pytest.raises(ValueError, match=r"structure of this Opaque of dimension 2400 gives no square root.*low_rank"):
        square_root(operator)
    with pytest.raises(ValueError, match="square_root takes a symmetric operator"):
        square_root(Dense(random(3, 3)))
    with pytest.raises(ValueError, match="Expected a count of at least 1, got 0"):
        sample_normal(Dense(spd(3)), 0, generator=torch.Generator())


# ---- inverses by solvers


def test_a_large_inverse_goes_by_conjugate_gradients():
    operator, _low, _spread = large([50.0, 20.0], N)
    got = inverse(operator, 0.1)
    b = random(N, 2)
    x = got @ b
    assert_close(operator @ x + 0.1 * x, b, 1e-6)
    assert got.last.converged
    assert got.last.residual <= 1e-6
    assert got.positive_semidefinite
    assert_close(inverse(got) @ b, operator @ b + 0.1 * b, 1e-12)
    corrected = inverse(operator, 0.1, correction=0.5)
    assert_close(corrected @ b, x + 0.5 * b, 1e-6)
    back = inverse(corrected) @ (corrected @ b)
    assert_close(back, b, 1e-5)


def test_a_large_indefinite_inverse_is_refused_in_the_product():
    operator, _, _ = large([50.0, -20.0], N)
    indefinite = inverse(operator, 0.5)
    with pytest.raises(NotPositiveDefinite, match="the smallest eigenvalue found is") as error:
        indefinite @ random(N)
    want = torch.linalg.eigvalsh(operator.to_dense())[0] + 0.5
    assert error.value.smallest == pytest.approx(float(want), rel=1e-3)
    said = float(str(error.value).split("A damping of ")[1].split(" would do")[0])
    x = inverse(operator, said) @ random(N)
    assert_close(operator @ x + said * x, random(N), 1e-5)
    x = inverse(operator, 0.5, solver="minres") @ random(N)
    assert_close(operator @ x + 0.5 * x, random(N), 2e-6)


def test_a_large_singular_operator_is_refused_in_the_product():
    operator = Opaque(Diagonal(torch.cat([torch.zeros(1), torch.linspace(1, 2, N)]).double()))
    with pytest.raises(NotPositiveDefinite, match="The operator is singular"):
        inverse(operator) @ random(N + 1)


def test_a_preconditioner_is_used():
    operator, low, _ = large([5e4, 2e4, 1e4, 5e3], N)
    helper = inverse(low + Identity(operator.space))
    plain, helped = inverse(operator), inverse(operator, preconditioner=helper)
    b = random(N)
    assert_close(helped @ b, plain @ b, 1e-4)
    assert helped.last.iterations < plain.last.iterations


def test_what_does_not_converge_says_so():
    matrix = matrix_with(torch.logspace(0, -15, 30, dtype=F64).tolist())
    operator = Opaque(Dense(matrix.float().double()))
    with pytest.warns(NotConverged, match="The product with the inverse, by MINRES, stopped after"):
        inverse(operator, solver="minres", tol=1e-15) @ random(30)


def test_an_inverse_that_solves_is_live():
    diagonal_values = torch.linspace(1, 2, 10, dtype=F64)
    operator = Opaque(Diagonal(diagonal_values))
    solves, factorised = inverse(operator, solver="cg", tol=1e-12), inverse(operator)
    diagonal_values.mul_(2)
    assert_close(solves @ torch.ones(10, dtype=F64), 1 / diagonal_values, 1e-10)
    assert_close(factorised @ torch.ones(10, dtype=F64), 2 / diagonal_values, 1e-10)


REFUSED = [
    (lambda: inverse(Dense(spd(3)), -0.1), "Expected a finite damping ≥ 0, got -0.1"),
    (lambda: inverse(Dense(spd(3)), float("nan")), "Expected a finite damping ≥ 0, got nan"),
    (lambda: inverse(Dense(spd(3)), 0.1, float("inf")), "Expected a finite correction, got inf"),
    (lambda: inverse(Dense(spd(3)), tol=0.0), "Expected a relative tolerance between 0 and 1, got 0.0"),
    (lambda: inverse(Dense(spd(3)), solver="gmres"), "Unknown solver 'gmres'. Did you mean 'minres'"),
    (lambda: inverse(Dense(random(3, 4))), "not one space"),
    (lambda: inverse(Dense(random(3, 3)), solver="cg"), "CG needs a symmetric operator.*claim_symmetric"),
    (lambda: inverse(Dense(random(3, 3)), solver="minres"), "MINRES needs a symmetric operator"),
    (
        lambda: inverse(Dense(spd(3)), solver="minres", preconditioner=Identity(Dense(spd(3)).space)),
        "A preconditioner is for solver='cg', got solver='minres'",
    ),
    (lambda: inverse(Dense(torch.nan * spd(3))), "Expected a matrix of finite numbers, got one with NaN or infinity"),
    (lambda: inverse(Opaque(Dense(torch.ones(2_001, 2_001).tril()))), "CG needs a symmetric operator"),
    (lambda: trace(Dense(spd(3)), products=5), "Expected at least 6 products, got 5"),
    (lambda: diagonal(Dense(spd(3)), products=5), "Expected at least 6 products, got 5"),
    (lambda: lanczos(Dense(random(3, 3)), random(3), 2), "Lanczos needs a symmetric operator"),
    (lambda: lanczos(Dense(spd(3)), 0 * random(3), 2), "Expected a finite start other than zero, got one of norm 0"),
]


@pytest.mark.parametrize(("call", "message"), REFUSED)
def test_refusals(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_an_empty_block_is_no_obstacle():
    blocks = BlockDiagonal([Dense(spd(2)), Dense(torch.empty(0, 0, dtype=F64))])
    assert_close(inverse(blocks).to_dense(), torch.linalg.inv(spd(2)))


def test_a_singular_matrix_that_is_not_symmetric():
    with pytest.raises(ConvergenceError, match=r"The operator is singular .* it has no inverse"):
        inverse(Dense(torch.tensor([[1.0, 2.0], [0.0, 0.0]])))


@pytest.mark.parametrize("rank", range(1, 6))
def test_singular_matrices_are_never_inverted(rank):
    for seed in range(10):
        u = random(6, rank, seed=seed)
        with pytest.raises(NotPositiveDefinite, match="The operator is singular"):
            inverse(Dense(u @ u.T))


# ---- Lanczos


@pytest.mark.parametrize("steps", [1, 5, 20])
def test_the_lanczos_relation(steps):
    matrix = spd(20)
    operator = Dense((matrix + matrix.T) / 2)
    got = lanczos(operator, random(20), steps)
    t = torch.diag(got.diagonal) + torch.diag(got.off_diagonal, 1) + torch.diag(got.off_diagonal, -1)
    q = got.basis
    assert_close(q.T @ q, torch.eye(steps, dtype=F64), 1e-12)
    assert_close(q.T @ operator.matrix @ q, t, 1e-11)
    values, vectors = got.eigh()
    true = (operator.matrix @ q @ vectors - q @ vectors * values).norm(dim=0)
    if steps < 20:
        assert_close(got.residuals(vectors), true, 1e-8)
    else:
        assert_close(values, torch.linalg.eigvalsh(operator.matrix), 1e-12)


def test_lanczos_stops_at_an_invariant_space():
    operator = Diagonal(torch.tensor([1.0, 1.0, 2.0, 2.0, 3.0], dtype=F64))
    assert_close(lanczos(operator, random(5), 5).eigh()[0], torch.tensor([1.0, 2.0, 3.0], dtype=F64), 1e-12)


def test_standard_errors_of_a_sum_add():
    one, two = torch.ones(3, dtype=F64), 2 * torch.ones(3, dtype=F64)
    got = diagonal(Diagonal(one, None, one) + 3 * Diagonal(two, None, two))
    assert_close(got.values, 7 * one)
    assert_close(got.standard_error, 7 * one)


def test_the_smallest_eigenvalue_found_is_that_of_the_whole():
    operator = 3 * Diagonal(torch.tensor([-1.0, 2.0], dtype=F64)) + 0.5 * Identity(Dense(spd(2)).space)
    with pytest.raises(NotPositiveDefinite, match=r"found is -2\.5 without the damping, -2 with it") as error:
        inverse(operator, 0.5)
    assert error.value.smallest == pytest.approx(-2)


def test_a_large_logdet_is_that_of_the_damped_operator():
    operator, low, spread = large([20.0], N)
    ratio = float((low.vectors[:, 0] ** 2 / (spread + 0.5)).sum())
    want = float((spread + 0.5).log().sum()) + float(torch.tensor(1 + 20 * ratio).log())
    got = logdet(operator, 0.5, steps=10)
    assert got.standard_error > 0
    assert abs(got.estimate - want) <= 4 * got.standard_error
