"""Agreement with curvlinops and SciPy where these are right, and what peers get wrong: each case has its test."""

import math

import pytest
import torch
from scipy.sparse.linalg import eigsh as scipy_eigsh
from torch import nn

import quadric
from oracles import assert_close, derivatives
from quadric import eigsh, spectral_density

F64 = torch.float64
LOSS = nn.CrossEntropyLoss()
ROUNDING = 1e-12
"""Of the oracle."""


def network(*middle):
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(10, 8), *middle, nn.Tanh(), nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 3)).double()


def batches(*sizes):
    generator = torch.Generator().manual_seed(1)
    return [
        (torch.randn(size, 10, generator=generator, dtype=F64), torch.randint(3, (size,), generator=generator))
        for size in sizes
    ]


def ours(model, data, kind="Hessian"):
    return getattr(quadric, kind)(quadric.Objective(model, LOSS), data)


@pytest.mark.parametrize("sizes", [(40,), (16, 16, 16), (30, 7, 1)], ids=["one batch", "even", "uneven"])
@pytest.mark.parametrize("kind", ["Hessian", "GGN"])
def test_the_top_agrees_with_curvlinops_and_scipy(kind, sizes):
    curvlinops = pytest.importorskip("curvlinops")
    model, data = network(), batches(*sizes)
    theirs = getattr(curvlinops, f"{kind}LinearOperator")(model, LOSS, list(model.parameters()), data)
    values, vectors = scipy_eigsh(theirs.to_scipy(dtype="float64"), 5, which="LA", tol=1e-10)
    got = eigsh(ours(model, data, kind), 5, "LA", 1e-8, basis=60)
    assert got.converged
    assert_close(got.eigenvalues, torch.tensor(values).flip(0), 1e-7)
    overlap = (torch.tensor(vectors).flip(1) * got.eigenvectors).sum(0).abs()
    assert_close(overlap, torch.ones(5, dtype=F64), 1e-5)


def test_uneven_batches_are_averaged_over_examples():
    """And not over batches: together they are one batch of all."""
    model, data = network(), batches(30, 7, 1)
    whole = [tuple(torch.cat(parts) for parts in zip(*data, strict=True))]
    got = eigsh(ours(model, data), 4, basis=60)
    want = torch.linalg.eigvalsh(derivatives.hessian(model, LOSS, whole)).flip(0)[:4]
    assert bool(((got.eigenvalues - want).abs() <= got.errors + ROUNDING).all())


def test_degenerate_eigenvalues_are_listed_as_often_as_they_are():
    """One Krylov space holds one vector of each eigenspace. Identical columns of weights have identical eigenvalues."""
    torch.manual_seed(0)
    x, t = torch.randn(60, 40, dtype=F64), torch.randn(60, 6, dtype=F64)
    model = nn.Linear(40, 6, bias=False).double()
    hessian = quadric.Hessian(quadric.Objective(model, nn.MSELoss()), (x, t))
    got = eigsh(hessian, 18, basis=70)
    once = torch.linalg.eigvalsh(2 * x.T @ x / (60 * 6)).flip(0)[:3]
    assert_close(got.eigenvalues, once.repeat_interleave(6), 1e-6)
    assert got.converged
    assert_close(got.eigenvectors.T @ got.eigenvectors, torch.eye(18, dtype=F64), 1e-10)


def test_more_than_fifty_steps_bring_no_ghosts():
    """Without full reorthogonalisation converged eigenvalues come back as copies, and their weight with them."""
    model, data = network(), batches(40)
    hessian = ours(model, data)
    every = torch.linalg.eigvalsh(derivatives.hessian(model, LOSS, data))
    got = eigsh(hessian, 60, "LA", 1e-8, basis=120)
    assert got.products > 50
    assert bool(((got.eigenvalues - every.flip(0)[:60]).abs() <= got.errors + ROUNDING).all())
    density = spectral_density(hessian, steps=80, probes=2)
    assert not density.exact
    top = float(every[-1])
    assert int((density.nodes > 0.999 * top).sum()) == 2  # once for each probe


def test_batch_norm_in_train_mode_is_measured_and_left_as_it_was():
    model, data = network(nn.BatchNorm1d(8)), batches(30, 7, 3)
    state = {name: value.clone() for name, value in model.state_dict().items()}
    got = eigsh(ours(model, data), 4, "LM", basis=60)
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    want = torch.linalg.eigvalsh(derivatives.hessian(model, LOSS, data))
    want = want[want.abs().argsort(descending=True)][:4]
    assert bool(((got.eigenvalues.abs() - want.abs()).abs() <= got.errors + ROUNDING).all())
    assert math.isfinite(got.upper)
