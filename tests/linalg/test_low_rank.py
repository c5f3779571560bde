"""Low-rank approximations against the best there is, and their error estimates against the truth."""

import sys
from functools import partial

import pytest
import torch

from linalg.opaque import Opaque
from operators.suite import F64, orthogonal, random, spd
from oracles import assert_close
from quadric import NotConverged
from quadric.linalg import inverse, low_rank, range_finder
from quadric.linalg.block_krylov import block_krylov
from quadric.operators import Dense, Diagonal, Identity, LowRank, Zero

N = 200
SPECTRA = {
    "exponential": 0.8 ** torch.arange(N, dtype=F64),
    "quadratic": 1 / torch.arange(1, N + 1, dtype=F64) ** 2,
    "harmonic": 1 / torch.arange(1, N + 1, dtype=F64),
    "outliers": torch.cat([torch.linspace(50, 10, 8, dtype=F64), torch.linspace(1, 0, N - 8, dtype=F64)]),
    "indefinite": 0.85 ** torch.arange(N, dtype=F64) * (-1.0) ** torch.arange(N),
    "multiple": torch.cat([torch.full((20,), 5.0, dtype=F64), 0.9 ** torch.arange(N - 20, dtype=F64)]),
    "flat": torch.linspace(1, 0.5, N, dtype=F64),
    "semicircle": torch.linspace(-1, 1, N, dtype=F64),
}


def with_spectrum(values, seed=1):
    q = orthogonal(len(values), seed)
    matrix = q @ torch.diag(values) @ q.T
    return Opaque(Dense((matrix + matrix.T) / 2)), (matrix + matrix.T) / 2


def best(values, rank):
    return float(values.abs().sort(descending=True).values[rank:].norm())


@pytest.mark.parametrize("name", SPECTRA)
@pytest.mark.parametrize("rank", [1, 5, 20])
def test_the_default_is_near_optimal(name, rank):
    values = SPECTRA[name]
    for seed in range(3):
        operator, matrix = with_spectrum(values, seed)
        got = low_rank(operator, rank, seed=seed)
        error = float((got.to_dense() - matrix).norm())
        assert error <= 1.05 * best(values, rank)
        assert abs(got.error.estimate - error) <= 5 * got.error.standard_error
        assert got.error.products == operator.columns
        assert got.rank == rank
        assert_close(got.vectors.T @ got.vectors, torch.eye(rank, dtype=F64), 1e-10)
        assert got.values.abs().diff().le(0).all()


@pytest.mark.parametrize("method", ["lanczos", "randomized", "nystrom"])
@pytest.mark.parametrize("rank", [3, 6])
def test_what_has_low_rank_is_found_exactly(method, rank):
    u = torch.linalg.qr(random(40, 3))[0]
    operator = Opaque(LowRank(u, torch.tensor([3.0, 2.0, 1.0], dtype=F64)))
    got = low_rank(operator, rank, method=method)
    assert_close(got.to_dense(), operator.to_dense(), 1e-7)
    assert got.error.estimate < 1e-6
    assert got.space is operator.space


@pytest.mark.parametrize("method", ["randomized", "nystrom"])
def test_other_methods_are_good_where_the_spectrum_decays(method):
    values = SPECTRA["quadratic"]
    operator, matrix = with_spectrum(values)
    operator.positive_semidefinite = True
    got = low_rank(operator, 20, method=method)
    error = float((got.to_dense() - matrix).norm())
    assert error <= 3 * best(values, 20)
    assert abs(got.error.estimate - error) <= 5 * got.error.standard_error
    assert operator.columns == got.error.products


def test_nystrom_stays_below_the_operator():
    operator, matrix = with_spectrum(SPECTRA["exponential"])
    operator.positive_semidefinite = True
    got = low_rank(operator, 10, method="nystrom")
    assert float(torch.linalg.eigvalsh(matrix - got.to_dense())[0]) > -1e-9
    assert got.positive_semidefinite


@pytest.mark.parametrize("rank", [1, 4, 5])
def test_small_and_special_operators(rank):
    for operator in (
        Identity(Dense(spd(5)).space),
        Zero(Dense(spd(5)).space),
        Diagonal(random(5)),
        Dense(torch.ones(5, 5, dtype=F64)),
    ):
        got = low_rank(operator, rank)
        want = torch.linalg.eigvalsh(operator.to_dense()).abs().sort(descending=True).values
        assert_close(got.values.abs(), want[:rank], 1e-10)


def test_it_warns_where_it_is_not_settled(monkeypatch):
    operator, matrix = with_spectrum(SPECTRA["harmonic"])
    hasty = partial(block_krylov, gain=1e-14, max_blocks=3)
    monkeypatch.setattr(sys.modules["quadric.linalg.low_rank"], "block_krylov", hasty)
    with pytest.warns(NotConverged, match="may be worse than near-optimal: 30 products did not settle it"):
        got = low_rank(operator, 5)
    assert abs(got.error.estimate - float((got.to_dense() - matrix).norm())) <= 5 * got.error.standard_error


def test_one_seed_is_one_answer():
    operator, _ = with_spectrum(SPECTRA["harmonic"])
    state = torch.get_rng_state()
    assert torch.equal(low_rank(operator, 3, seed=4).vectors, low_rank(operator, 3, seed=4).vectors)
    assert torch.equal(state, torch.get_rng_state())


def test_the_mission_in_one_line():
    operator, matrix = with_spectrum(SPECTRA["exponential"])
    g = random(N)
    got = inverse(low_rank(operator, 60), damping=1e-2, correction=1e-3) @ g
    want = torch.linalg.solve(matrix + 1e-2 * torch.eye(N, dtype=F64), g) + 1e-3 * g
    assert_close(got, want, 1e-3)


@pytest.mark.parametrize("iterations", [0, 1, 2])
def test_the_range_finder(iterations):
    matrix = random(60, 30) @ torch.diag(0.5 ** torch.arange(30, dtype=F64)) @ orthogonal(30)
    q = range_finder(Dense(matrix), 10, iterations=iterations)
    assert_close(q.T @ q, torch.eye(10, dtype=F64), 1e-12)
    left = torch.linalg.matrix_norm(matrix - q @ (q.T @ matrix), 2)
    assert left <= 10 * torch.linalg.svdvals(matrix)[10]


def test_float32():
    _, matrix = with_spectrum(SPECTRA["quadratic"])
    got = low_rank(Dense(matrix.float() / 2 + matrix.float().T / 2), 8)
    assert got.dtype == torch.float32
    assert float((got.to_dense() - matrix).norm()) <= 1.05 * best(SPECTRA["quadratic"], 8)


REFUSED = [
    (lambda o: low_rank(o, 0), "Expected a rank from 1 to 200, got 0"),
    (lambda o: low_rank(o, 201), "Expected a rank from 1 to 200, got 201"),
    (lambda o: low_rank(o, 2.0), "Expected a rank from 1 to 200, got 2.0"),
    (lambda o: low_rank(o, 2, method="lanczo"), "Unknown method 'lanczo'. Did you mean 'lanczos'"),
    (lambda o: low_rank(Dense(random(4, 4)), 2), "low_rank takes a symmetric operator, and this Dense of shape"),
    (lambda o: low_rank(Dense(random(3, 4)), 2), "not one space"),
    (lambda o: low_rank(o, 2, method="nystrom"), "Nyström needs a positive semi-definite operator"),
    (lambda o: range_finder(o, 0), "Expected a size from 1 to 200, got 0"),
    (lambda o: range_finder(o, 2, iterations=-1), "Expected iterations ≥ 0, got -1"),
]


@pytest.mark.parametrize(("call", "message"), REFUSED)
def test_refusals(call, message):
    with pytest.raises(ValueError, match=message):
        call(with_spectrum(SPECTRA["semicircle"])[0])


def test_the_error_of_the_error_is_neither_too_small_nor_too_large():
    operator, matrix = with_spectrum(SPECTRA["harmonic"])
    z = []
    for seed in range(60):
        got = low_rank(operator, 5, method="randomized", seed=seed)
        z.append((got.error.estimate - float((got.to_dense() - matrix).norm())) / got.error.standard_error)
    assert 0.75 < float(torch.tensor(z).square().mean().sqrt()) < 1.6
