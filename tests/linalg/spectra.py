"""Symmetric matrices with planted spectra."""

import math

import torch

from linalg.opaque import F64, Opaque
from operators.suite import orthogonal
from quadric.operators import Dense

N = 300


def goe(n, seed=5):
    w = torch.randn(n, n, dtype=F64, generator=torch.Generator().manual_seed(seed))
    return torch.linalg.eigvalsh((w + w.T) / (2 * n) ** 0.5)


SPECTRA = {
    "exponential": 0.8 ** torch.arange(N, dtype=F64),
    "triples": torch.cat([torch.tensor([5.0] * 3 + [4.0] * 4), torch.linspace(-1, 1, N - 7)]).to(F64),
    "multiplicity 20": torch.cat([torch.full((20,), 5.0, dtype=F64), 0.9 ** torch.arange(N - 20, dtype=F64)]),
    "cluster": torch.cat([5 + 1e-5 * torch.arange(5, dtype=F64), torch.linspace(-3, 3, N - 5, dtype=F64)]),
    "rank 30": torch.cat([torch.linspace(1, 10, 30, dtype=F64), torch.zeros(N - 30, dtype=F64)]),
    "indefinite": torch.cat([torch.linspace(-5, -3, 6), torch.linspace(-1, 1, N - 12), torch.linspace(3, 6, 6)]).to(
        F64
    ),
    "plus and minus": torch.cat([torch.tensor([5.0] * 3 + [-5.0] * 3), torch.linspace(-1, 1, N - 6)]).to(F64),
    "uniform": torch.linspace(-1, 1, N, dtype=F64),
    "doubled": torch.linspace(-1, 1, N // 2, dtype=F64).repeat_interleave(2),
    "semicircle, tripled": goe(N // 3).repeat_interleave(3),
    "identity": torch.ones(N, dtype=F64),
    "zero": torch.zeros(N, dtype=F64),
}


SMALL = {
    "harmonic": 1 / torch.arange(1, 61, dtype=F64),
    "flat": torch.linspace(1, 2, 60, dtype=F64),
    "indefinite": torch.linspace(-1, 1.2, 60, dtype=F64),
}


def planted(values, seed=0, dtype=F64):
    """An opaque operator with these eigenvalues, its matrix, and the eigenvalues as float64 LAPACK has them."""
    q = orthogonal(len(values), seed)
    matrix = (q @ torch.diag(values) @ q.T).to(dtype)
    matrix = (matrix + matrix.T) / 2
    return Opaque(Dense(matrix)), matrix.double(), torch.linalg.eigvalsh(matrix.double())


def wanted(values, k, which):
    """The k wanted of ascending eigenvalues, in the order that eigsh documents."""
    if which == "LA":
        return values.flip(0)[:k]
    if which == "SA":
        return values[:k]
    if which == "LM":
        return values[values.abs().argsort(descending=True)][:k]
    return torch.cat([values.flip(0)[: k - k // 2], values[: k // 2].flip(0)])


def covered(estimates, truth):
    """The share of two-sigma intervals that hold the truth."""
    return sum(abs(e.estimate - truth) <= 2 * e.standard_error for e in estimates) / len(estimates)


def smoothed(values, grid, width):
    """φ of all eigenvalues."""
    bells = torch.exp(-0.5 * ((grid.unsqueeze(1) - values) / width).square()) / (width * math.sqrt(2 * math.pi))
    return bells.mean(1)
