"""Truncated conjugate gradients against dense matrices, and the ways it ends."""

import pytest
import torch

from oracles import assert_close
from quadric.linalg import truncated_cg
from quadric.operators import Dense, Diagonal, claim_symmetric

F64 = torch.float64


def system(n=12, seed=0, lowest=0.1):
    generator = torch.Generator().manual_seed(seed)
    q, _ = torch.linalg.qr(torch.randn(n, n, dtype=F64, generator=generator))
    a = q @ torch.diag(torch.linspace(lowest, 3, n, dtype=F64)) @ q.T
    return (a + a.T) / 2, torch.randn(n, dtype=F64, generator=generator)


def operator(matrix):
    return claim_symmetric(Dense(matrix))


def value(a, b, x):
    return (0.5 * x @ a @ x - b @ x).item()


@pytest.mark.parametrize("damping", [0.0, 0.5])
@pytest.mark.parametrize("preconditioned", [False, True])
def test_it_solves_the_system_when_it_may(damping, preconditioned):
    a, b = system()
    shifted = a + damping * torch.eye(12, dtype=F64)
    p = Diagonal(1 / shifted.diagonal()) if preconditioned else None
    found = truncated_cg(operator(a), b, damping=damping, preconditioner=p, progress=0.0, max_iterations=100)
    assert_close(found.solution, torch.linalg.solve(shifted, b), 1e-9)
    assert found.model == pytest.approx(value(shifted, b, found.solution), rel=1e-10)
    assert found.products == found.iterations


@pytest.mark.parametrize("limit", [1, 2, 5])
def test_iterates_minimise_the_model_over_krylov_spaces(limit):
    a, b = system()
    found = truncated_cg(operator(a), b, max_iterations=limit)
    basis = torch.linalg.qr(torch.stack([torch.linalg.matrix_power(a, i) @ b for i in range(limit)], 1)).Q
    assert_close(found.solution, basis @ torch.linalg.solve(basis.T @ a @ basis, basis.T @ b), 1e-9)
    assert (found.iterations, found.reason) == (limit, "the iteration limit was reached")
    assert found.model == pytest.approx(value(a, b, found.solution), rel=1e-10)


def test_a_start_is_used_only_if_it_is_better_than_zero():
    a, b = system()
    solution = torch.linalg.solve(a, b)
    near = truncated_cg(operator(a), b, start=0.95 * solution, max_iterations=1)
    assert value(a, b, near.solution) < value(a, b, 0.95 * solution)
    assert near.products == 2
    plain = truncated_cg(operator(a), b, max_iterations=1)
    for bad in (-solution, 100 * solution):
        assert torch.equal(truncated_cg(operator(a), b, start=bad, max_iterations=1).solution, plain.solution)


def test_it_stops_where_progress_is_small():
    """Martens's rule, evaluated on the values of the model at the iterates."""
    a, b = system(200, lowest=1e-4)
    found = truncated_cg(operator(a), b)
    values = [value(a, b, truncated_cg(operator(a), b, max_iterations=i, progress=0.0).solution) for i in range(1, 60)]
    values = [0.0, *values]
    met = [
        i for i in range(11, 60) if i > max(10, -(-i // 10)) and values[i - 10] - values[i] < 10 * 5e-4 * abs(values[i])
    ]
    assert found.reason == "progress had become small"
    assert found.iterations == met[0]


def test_few_iterates_are_kept():
    a, b = system(60, lowest=1e-3)
    found = truncated_cg(operator(a), b, progress=0.0, max_iterations=30, keep=3)
    assert len(found.earlier) == 3
    values = [found.model, *(value(a, b, x) for x in found.earlier)]
    assert values == sorted(values)
    assert truncated_cg(operator(a), b, max_iterations=1).earlier == ()


def test_negative_curvature_ends_it_with_a_direction_that_descends():
    a, b = system(lowest=-2.0)
    found = truncated_cg(operator(a), b, progress=0.0, max_iterations=100)
    d = found.negative_curvature
    assert "negative curvature" in found.reason
    assert d @ a @ d <= 0
    assert (a @ found.solution - b) @ d < 0
    assert value(a, b, found.solution + d) < found.model
    assert truncated_cg(operator(a), b, damping=2.5).negative_curvature is None


def test_a_zero_right_hand_side():
    a, _ = system()
    found = truncated_cg(operator(a), torch.zeros(12, dtype=F64))
    assert not found.solution.any()
    assert (found.iterations, found.model) == (0, 0.0)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"max_iterations": 0}, "max_iterations to be an integer ≥ 1"),
        ({"progress": -1.0}, "progress to be a finite number ≥ 0"),
        ({"damping": -1.0}, "damping ≥ 0"),
        ({"preconditioner": Diagonal(-torch.ones(12, dtype=F64))}, "positive definite preconditioner"),
    ],
)
def test_bad_input(change, told):
    a, b = system()
    with pytest.raises(ValueError, match=told):
        truncated_cg(operator(a), b, **change)
    with pytest.raises(ValueError, match="symmetric"):
        truncated_cg(Dense(a + torch.triu(torch.ones(12, 12, dtype=F64), 1)), b)
    with pytest.raises(ValueError, match="not finite"):
        truncated_cg(operator(torch.full((12, 12), torch.nan, dtype=F64)), b)
