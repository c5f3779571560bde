"""Trace, Frobenius norm, diagonal and spectral density by random probes, judged by their own standard errors."""

import math

import pytest
import torch

import quadric
from linalg.opaque import F64, Opaque
from linalg.spectra import SMALL, SPECTRA, covered, planted, smoothed
from operators.suite import random
from oracles import assert_close
from quadric import NotConverged, diagonal, frobenius_norm, spectral_density, trace
from quadric.linalg import SpectralDensity, logdet
from quadric.linalg.diagpp import DiagPlusPlus
from quadric.linalg.spectral_density import _below, _quadrature
from quadric.linalg.trace import METHODS
from quadric.operators import Dense, Diagonal, Estimate, LowRank


def test_xtrace_errs_least_where_the_spectrum_decays():
    operator, matrix, _ = planted(0.8 ** torch.arange(60, dtype=F64))
    error = {}
    for name, method in METHODS.items():
        total = 0.0
        for seed in range(60):
            sampler = method(operator, seed)
            sampler.grow(30)
            total += (sampler.estimate().estimate - float(matrix.trace())) ** 2
        error[name] = total
    assert error["xtrace"] < 0.5 * error["hutch++"] < 0.5 * error["hutchinson"]


@pytest.mark.parametrize("method", METHODS)
def test_growing_is_as_good_as_starting_large(method):
    """Products taken in three goes say what they would in one."""
    operator, matrix, _ = planted(SMALL["harmonic"])
    found = []
    for seed in range(100):
        sampler = METHODS[method](operator, seed)
        for _ in range(3):
            sampler.grow(12)
        found.append(sampler.estimate())
    assert found[0].products == 36
    assert covered(found, float(matrix.trace())) >= 0.86


@pytest.mark.parametrize("method", METHODS)
def test_a_trace_to_a_tolerance(method):
    operator, matrix, _ = planted(SPECTRA["exponential"] + 0.1)
    got = trace(operator, method=method, tol=0.02)
    assert got.converged
    assert got.standard_error <= 0.02 * abs(got.estimate)
    assert abs(got.estimate - float(matrix.trace())) <= 4 * got.standard_error
    assert got.products == operator.columns


def test_running_out_of_products_is_not_silent():
    operator, _, _ = planted(SPECTRA["indefinite"])
    with pytest.warns(NotConverged, match=r"The trace has a standard error of .* the products ran out"):
        got = trace(operator, tol=1e-4, products=90)
    assert not got.converged
    assert got.products == operator.columns <= 90
    values = torch.randn(2400, dtype=F64)
    matrix = torch.diag(values) + 0.1
    with pytest.warns(NotConverged, match=r"The diagonal has a standard error of .* the products ran out"):
        rough = diagonal(quadric.claim_symmetric(Opaque(Dense(matrix))), tol=1e-3, products=60)
    assert not rough.converged
    assert rough.products == 60
    assert not diagonal(2 * (rough + rough)).converged
    assert not trace(rough).converged


@pytest.mark.parametrize("name", ["trace", "frobenius_norm", "density"])
def test_a_tolerance_that_takes_more_than_n_products_is_met_by_n(name):
    operator, matrix, values = planted(SPECTRA["plus and minus"])
    if name == "density":
        got = spectral_density(operator, steps=10, probes=3, tol=1e-4)
        assert got.exact
        assert got.negative.estimate == pytest.approx(float((values < -got.threshold).double().mean()))
    else:
        got = {"trace": trace, "frobenius_norm": frobenius_norm}[name](operator, tol=1e-4)
        want = {"trace": matrix.trace(), "frobenius_norm": matrix.norm()}[name]
        assert got.estimate == pytest.approx(float(want), abs=1e-10)
        assert got.standard_error == 0
    assert got.converged
    assert got.products == operator.columns == 330


def test_a_diagonal_that_takes_more_than_n_products_is_met_by_n():
    operator = Opaque(LowRank(random(2100, 30), torch.ones(30, dtype=F64)))
    got = diagonal(operator, tol=1e-4)
    assert got.exact
    assert got.converged
    assert_close(got.values, random(2100, 30).square().sum(1))
    assert got.products == operator.columns == 2130


def test_a_diagonal_to_a_tolerance():
    u = torch.linalg.qr(random(2400, 3))[0]
    operator = Opaque(LowRank(u, torch.tensor([3.0, 2.0, 1.0], dtype=F64)))
    got = diagonal(operator, tol=0.05)
    want = (u.square() * torch.tensor([3.0, 2.0, 1.0], dtype=F64)).sum(1)
    assert float((got.values - want).norm()) <= 0.05 * float(want.norm())


def test_the_frobenius_norm():
    operator, matrix, _ = planted(SPECTRA["indefinite"])
    assert frobenius_norm(operator, products=300).estimate == pytest.approx(float(matrix.norm()))
    rectangular = random(40, 20)
    assert frobenius_norm(Dense(rectangular)).estimate == pytest.approx(float(rectangular.norm()))
    close = frobenius_norm(operator, tol=0.02)
    assert close.standard_error <= 0.02 * close.estimate
    assert abs(close.estimate - float(matrix.norm())) <= 4 * close.standard_error


def test_a_log_determinant_to_a_tolerance():
    u = torch.linalg.qr(random(2400, 2))[0]
    low = LowRank(u, torch.tensor([300.0, 20.0], dtype=F64))
    operator = Opaque(low + quadric.identity_like(low))
    want = math.log(301) + math.log(21)
    got = logdet(operator, steps=6, probes=3, tol=0.1)
    assert got.converged
    assert got.standard_error <= 0.1 * got.estimate
    assert got.products > 3 * 6
    assert abs(got.estimate - want) <= 4 * got.standard_error
    with pytest.warns(NotConverged, match=r"The log-determinant has an error of .* after 12 products"):
        assert not logdet(operator, steps=6, probes=3, tol=1e-6, max_probes=4).converged


# ---- spectral density


def test_few_dimensions_are_exact():
    operator, _, values = planted(SPECTRA["indefinite"])
    got = spectral_density(operator)
    assert got.exact
    assert got.products == operator.columns == 300
    assert_close(got.density, smoothed(values, got.grid, got.width), 1e-10)
    assert got.negative.estimate == pytest.approx(float((values < -got.threshold).double().mean()))
    assert got.negative.standard_error == 0


def test_each_probe_is_bracketed_exactly():
    """F(x) = Σ (uᵢᵀq)² over the eigenvalues up to x lies between the brackets, tightly, for any start q."""
    operator, matrix, values = planted(SPECTRA["uniform"])
    start = random(300)
    vectors = torch.linalg.eigh(matrix).eigenvectors
    weights = (vectors.T @ start / start.norm()).square()
    nodes, shares = (side.unsqueeze(0) for side in _quadrature(operator, start, 12)[0])
    tight = 0
    for x in torch.linspace(-1.05, 1.05, 211, dtype=F64).tolist():
        low, high = _below(nodes, shares, x)
        mass = float(weights[values <= x].sum())
        assert float(low) - 1e-10 <= mass <= float(high) + 1e-10
        middle = float(shares[nodes <= x].sum())
        tight += int(mass < middle - 1e-3) + int(mass > middle + 1e-3)
    assert tight > 50  # the sum over nodes up to x is no bound by itself


def test_brackets_narrow_with_steps_and_hold_for_any_interval():
    operator, _, values = planted(SPECTRA["uniform"])
    for steps in (10, 25):
        got = spectral_density(operator, steps=steps, probes=6, points=11)
        for low, high in ((-0.5, 0.5), (0.2, math.inf), (-math.inf, -0.9)):
            share = float(((values > low) & (values <= high)).double().mean())
            assert got.mass(low, high).low <= share <= got.mass(low, high).high
    wide = [m.high - m.low for m in (spectral_density(operator, steps=s, probes=6).negative for s in (10, 25))]
    assert wide[1] < wide[0]


def test_more_than_fifty_steps_show_no_ghosts():
    """Without reorthogonalisation converged eigenvalues come back as copies, and their weight with them."""
    values = torch.cat([torch.tensor([100.0, 50.0]), torch.linspace(0, 1, 898)]).to(F64)
    operator, _, _ = planted(values)
    got = spectral_density(operator, steps=80, probes=3)
    assert int((got.nodes > 2).sum()) == 3 * 2
    assert float(got.weights.sum(1).sub(1).abs().max()) < 1e-12


def test_a_density_to_a_tolerance():
    operator, _, _ = planted(SPECTRA["uniform"])
    got = spectral_density(operator, steps=12, probes=3, width=0.3, points=101, tol=0.04)
    assert float(got.standard_error.mean() / got.density.mean()) <= 0.04
    assert 3 < got.nodes.shape[0] < 25
    assert got.converged
    assert not got.exact
    with pytest.warns(NotConverged, match=r"The spectral density has standard errors .* after 4 probes"):
        assert not spectral_density(operator, steps=12, probes=3, points=101, tol=0.01, max_probes=4).converged


def test_special_operators():
    for name in ("identity", "zero", "rank 30"):
        operator, _, values = planted(SPECTRA[name])
        got = spectral_density(operator, steps=40, probes=2)
        assert not got.exact
        step = float(got.grid[1] - got.grid[0])
        assert float(got.density.sum()) * step == pytest.approx(1, abs=2e-3)
        share = float((values.abs() <= got.threshold).double().mean())
        assert got.near_zero.low <= share <= got.near_zero.high


def test_results_come_back_from_files(tmp_path):
    operator, _, _ = planted(SPECTRA["uniform"])
    got = spectral_density(operator, steps=10, probes=4)
    back = SpectralDensity.load(got.save(tmp_path / "density.npz"))
    assert torch.equal(back.density, got.density)
    assert back.negative == got.negative
    assert back.mass(0, 1) == got.mass(0, 1)
    total = trace(operator)
    assert Estimate.load(total.save(tmp_path / "trace.npz")) == total
    rough = Diagonal(torch.ones(3), None, torch.full((3,), 0.5), products=60, converged=False)
    for entries in (rough, diagonal(Opaque(Dense(random(3, 3))))):
        again = Diagonal.load(entries.save(tmp_path / "diagonal.npz"))
        assert torch.equal(again.values, entries.values)
        assert torch.equal(again.standard_error, entries.standard_error)
        assert (again.exact, again.products, again.converged) == (entries.exact, entries.products, entries.converged)


def flat(n):
    return Opaque(Diagonal(torch.ones(n, dtype=F64)))


LONG = {
    "trace": lambda told: trace(flat(300), progress=told),
    "trace to a tolerance": lambda told: trace(planted(SPECTRA["exponential"])[0], tol=0.05, progress=told),
    "small trace": lambda told: trace(flat(40), progress=told),
    "frobenius_norm": lambda told: frobenius_norm(flat(300), progress=told),
    "diagonal": lambda told: diagonal(flat(300), progress=told),
    "large diagonal": lambda told: diagonal(flat(2100), progress=told),
    "logdet": lambda told: logdet(flat(300), progress=told),
    "large logdet": lambda told: logdet(flat(2100), probes=8, progress=told),
    "density": lambda told: spectral_density(flat(300), progress=told),
}


@pytest.mark.parametrize("name", LONG)
def test_progress_is_told_along_the_way(name):
    lines = []
    LONG[name](lines.append)
    assert len(lines) >= 3
    counts = [int(line.split()[0].replace(",", "")) for line in lines if "standard error" not in line]
    assert counts == sorted(set(counts))
    assert all("products" in line for line in lines)


@pytest.mark.parametrize("ask", [trace, diagonal])
def test_parts_that_cancel_do_not_hide_a_missed_tolerance(ask):
    n = 2100 if ask is diagonal else 250
    one, two = (planted(torch.linspace(1, 2 + i, n, dtype=F64), seed=i)[1] for i in (0, 1))
    difference = Opaque(Dense(one)) - Opaque(Dense(0.9 * two))
    got = ask(difference, tol=0.05)
    want = (one - 0.9 * two).diagonal()
    assert got.converged
    if ask is trace:
        assert got.standard_error <= 0.05 * abs(got.estimate)
        assert abs(got.estimate - float(want.sum())) <= 4 * got.standard_error + 1e-9
    else:
        assert float(got.standard_error.norm()) <= 0.05 * float(got.values.norm())
        assert float((got.values - want).norm()) <= 0.2 * float(want.norm())


def test_progress_counts_columns_and_not_calls():
    lines = []
    found = diagonal(flat(40), progress=lines.append)
    assert lines == ["16 of 40 products", "32 of 40 products", "40 of 40 products"]
    assert found.products == 40


REFUSED = [
    (lambda o: trace(o, method="hutch"), "Unknown method 'hutch'. Did you mean 'hutch"),
    (lambda o: trace(o, products=5), "Expected at least 6 products, got 5"),
    (lambda o: trace(o, tol=0.0), "Expected a tolerance between 0 and 1"),
    (lambda o: trace(Dense(random(3, 4))), "not one space"),
    (lambda o: frobenius_norm(o, products=2), "Expected at least 6 products, got 2"),
    (lambda o: spectral_density(Dense(random(4, 4))), "A spectral density needs a symmetric operator"),
    (lambda o: spectral_density(o, steps=1), "Expected at least 2 steps, probes and points, got 1"),
    (lambda o: spectral_density(o, width=-1.0), r"Expected a finite width > 0, got -1\.0"),
    (lambda o: spectral_density(o, threshold=math.nan), "Expected a finite threshold > 0, got nan"),
    (lambda o: spectral_density(o, tol=2.0), "Expected a tolerance between 0 and 1"),
    (lambda o: spectral_density(o).mass(1, 0), "Expected low < high, got 1 and 0"),
]


@pytest.mark.parametrize(("call", "message"), REFUSED)
def test_refusals(call, message):
    with pytest.raises(ValueError, match=message):
        call(planted(SPECTRA["uniform"])[0])


@pytest.mark.parametrize("method", ["hutch++", "xtrace"])
@pytest.mark.parametrize("rank", [3, 25])
def test_growth_beyond_the_rank_stays_right(method, rank):
    """Once the basis holds the range, what a sketch adds is rounding: random directions have to stand in for it."""
    generator = torch.Generator().manual_seed(0)
    factor = torch.zeros(400, rank)
    factor[:200] = torch.randn(200, rank, generator=generator)  # half of the rows are dead
    matrix = factor @ factor.T
    estimator = METHODS[method](Opaque(Dense(matrix)), seed=0)
    for _ in range(6):
        estimator.grow(30)
    found = estimator.estimate()
    assert abs(found.estimate - float(matrix.trace())) <= max(4 * found.standard_error, 1e-3 * float(matrix.trace()))


def test_a_diagonal_of_low_rank_stays_right_as_products_are_added():
    factor = torch.zeros(400, 25)
    factor[:200] = torch.randn(200, 25, generator=torch.Generator().manual_seed(0))
    matrix = factor @ factor.T
    estimator = DiagPlusPlus(Opaque(Dense(matrix)), seed=0)
    for _ in range(6):
        estimator.grow(60)
    assert (estimator.diagonal().values - matrix.diagonal()).abs().max() <= 1e-3 * matrix.diagonal().max()
