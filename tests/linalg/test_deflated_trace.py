"""The trace from a Lanczos basis and probes of the rest, against the matrix."""

import pytest
import torch

from linalg.spectra import F64, planted
from quadric.linalg.deflated_trace import deflated_trace
from quadric.linalg.lanczos import lanczos
from quadric.linalg.probes import gaussian, seeded, signs

DECAYING = 0.8 ** torch.arange(60, dtype=F64)


def both(values, seed, steps=8, probes=20):
    """The estimate, and that of the same probes without deflation."""
    operator, matrix, _ = planted(values)
    generator = seeded(seed)
    known = lanczos(operator, gaussian(operator.space, 1, generator).squeeze(1), steps)
    got = deflated_trace(operator, known, probes, generator)
    plain = signs(operator.space, probes, seeded(seed + 1000))
    return got, float((plain * (matrix @ plain)).sum(0).mean()), float(matrix.trace())


def test_it_is_unbiased_covers_the_truth_and_errs_less_than_plain_probes():
    found = [both(DECAYING, seed) for seed in range(200)]
    truth = found[0][2]
    values = torch.tensor([got.estimate for got, _, _ in found], dtype=F64)
    plain = torch.tensor([p for _, p, _ in found], dtype=F64)
    assert abs(float(values.mean()) - truth) <= 4 * float(values.std()) / 200**0.5
    assert sum(abs(got.estimate - truth) <= 2 * got.standard_error for got, _, _ in found) >= 178
    assert float(values.std()) < 0.5 * float(plain.std())
    assert found[0][0].products == 20


def test_it_is_exact_where_the_basis_spans_the_space():
    got, _, truth = both(torch.tensor([3.0, 1.0, -2.0, 0.5], dtype=F64), seed=0)
    assert got.estimate == pytest.approx(truth)
    assert got.exact
    assert got.products == 0
