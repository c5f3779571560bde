"""Standard errors mean what they say: about 95 % of two-sigma intervals hold the truth, over 200 seeds."""

import pytest
import torch

from linalg.opaque import F64
from linalg.spectra import SMALL, SPECTRA, covered, planted, smoothed
from quadric import frobenius_norm, spectral_density
from quadric.linalg.diagpp import DiagPlusPlus
from quadric.linalg.logdet import _quadrature
from quadric.linalg.trace import METHODS

RUNS = 200
RUNS_OF_QUADRATURE = [40, pytest.param(RUNS, marks=pytest.mark.slow)]


@pytest.mark.parametrize("name", SMALL)
@pytest.mark.parametrize("method", METHODS)
def test_traces(method, name):
    """About 95 %: 14 samples have a Student's t of 93 %, and 200 runs leave 2 % of chance to that."""
    operator, matrix, _ = planted(SMALL[name])
    found = []
    for seed in range(RUNS):
        sampler = METHODS[method](operator, seed)
        sampler.grow(42)
        found.append(sampler.estimate())
    share = covered(found, float(matrix.trace()))
    assert 0.89 <= share <= (1 if method == "xtrace" else 0.99)  # XTrace's is an upper estimate
    spread = torch.tensor([e.estimate for e in found])
    bias = abs(float(spread.mean()) - float(matrix.trace()))
    assert bias <= 4 * float(spread.std()) / RUNS**0.5
    assert found[0].products == 42


@pytest.mark.parametrize("name", SMALL)
def test_entries_of_a_diagonal(name):
    """20 probes have a Student's t of 94 %; each run has an interval for each of 60 entries."""
    operator, matrix, _ = planted(SMALL[name])
    inside, values = [], []
    for seed in range(RUNS):
        method = DiagPlusPlus(operator, seed)
        method.grow(60)
        got = method.diagonal()
        inside.append(((got.values - matrix.diagonal()).abs() <= 2 * got.standard_error).double())
        values.append(got.values)
    assert 0.91 <= float(torch.stack(inside).mean()) <= 0.98
    spread = torch.stack(values)
    z = (spread.mean(0) - matrix.diagonal()) / (spread.std(0) / RUNS**0.5)
    assert float(z.abs().max()) <= 4.5


def test_the_frobenius_norm():
    operator, matrix, _ = planted(SPECTRA["indefinite"])
    found = [frobenius_norm(operator, products=60, seed=seed) for seed in range(RUNS)]
    assert 0.9 <= covered(found, float(matrix.norm())) <= 0.99


@pytest.mark.parametrize("runs", RUNS_OF_QUADRATURE)
def test_the_log_determinant(runs):
    """20 probes have a Student's t of 94 %; eight steps leave no bias at a condition number of 4."""
    operator, matrix, _ = planted(torch.linspace(1, 4, 60, dtype=F64))
    found = [_quadrature(operator, 0.5, 20, 8, None, 20, seed) for seed in range(runs)]
    want = float(torch.logdet(matrix + 0.5 * torch.eye(60, dtype=F64)))
    assert 0.88 <= covered(found, want) <= 1
    spread = torch.tensor([e.estimate for e in found], dtype=F64)
    assert abs(float(spread.mean()) - want) <= 4 * float(spread.std()) / runs**0.5


@pytest.mark.parametrize("runs", RUNS_OF_QUADRATURE)
def test_the_band_holds_the_density(runs):
    """About 95 % of the runs, at each point of the grid; wide enough bells make the quadrature's own error small."""
    values = torch.cat([torch.linspace(-1, 1, 180), torch.linspace(3, 5, 20)]).to(F64)
    operator, _, every = planted(values)
    inside = []
    for seed in range(runs):
        got = spectral_density(operator, steps=20, probes=9, points=40, width=0.4, seed=seed)
        low, high = got.band
        want = smoothed(every, got.grid, got.width)
        inside.append(((low <= want + 1e-4) & (want - 1e-4 <= high)).double())
    assert 0.89 <= float(torch.stack(inside).mean()) <= 0.99


@pytest.mark.parametrize("runs", RUNS_OF_QUADRATURE)
def test_masses_are_bracketed_and_calibrated(runs):
    values = torch.cat([torch.linspace(-3, -1, 40), 1e-5 * torch.linspace(-1, 1, 100), torch.linspace(1, 5, 60)]).to(
        F64
    )
    operator, _, _ = planted(values)
    hits = []
    for seed in range(runs):
        got = spectral_density(operator, steps=16, probes=10, threshold=0.01, points=11, seed=seed)
        for mass, share in ((got.negative, 0.2), (got.near_zero, 0.5)):
            assert 0 <= mass.low <= mass.estimate <= mass.high <= 1
            hits.append(mass.low <= share <= mass.high)
    assert sum(hits) / len(hits) >= 0.93
