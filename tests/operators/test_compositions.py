"""Properties that hold for every expression: random trees of operators against the same trees of matrices."""

import random as pyrandom

import pytest
import torch

from operators.suite import F64, orthogonal, random, spd
from oracles import assert_close
from quadric.linalg import diagonal, inverse, logdet, square_root, trace
from quadric.operators import (
    BlockDiagonal,
    Dense,
    Diagonal,
    EigenKronecker,
    Identity,
    Kronecker,
    LowRank,
    Zero,
    block_diagonal,
    factored_damping,
    identity_like,
    sub_matrix,
)

N = 6


def leaf(rng):
    seed = rng.randrange(10**6)
    a, d, two = random(N, N, seed=seed), random(N, seed=seed + 1), torch.tensor([1.0, 3.0], dtype=F64)
    symmetric = spd(N, seed=seed)
    symmetric = (symmetric + symmetric.T) / 2
    u, left, right = random(N, 2, seed=seed), spd(2, seed=seed), spd(3, seed=seed)
    q2, q3 = orthogonal(2, seed), orthogonal(3, seed)
    q = torch.kron(q2, q3)
    eye = Identity(Dense(a).space)
    return rng.choice(
        [
            lambda: (Dense(a), a),
            lambda: (Dense(symmetric), symmetric),
            lambda: (Diagonal(d), torch.diag(d)),
            lambda: (Diagonal(d.abs()), torch.diag(d.abs())),
            lambda: (eye, torch.eye(N, dtype=F64)),
            lambda: (Zero(eye.space), torch.zeros(N, N, dtype=F64)),
            lambda: (LowRank(u, two), u @ torch.diag(two) @ u.T),
            lambda: (Kronecker(left, right), torch.kron(left, right)),
            lambda: (EigenKronecker(q2, q3, d.view(2, 3)), q @ torch.diag(d) @ q.T),
            lambda: (BlockDiagonal([Dense(right), Dense(right)]), torch.block_diag(right, right)),
            lambda: (inverse(Dense(symmetric), 0.5), torch.linalg.inv(symmetric + 0.5 * torch.eye(N, dtype=F64))),
        ]
    )()


def tree(rng, depth):
    if depth == 0 or rng.random() < 0.15:
        return leaf(rng)
    operator, matrix = tree(rng, depth - 1)
    kind = rng.choice(["sum", "difference", "product", "scaled", "transposed", "shift", "inverse", "blocks"])
    if kind in ("sum", "difference", "product"):
        other, m = tree(rng, depth - 1)
        if kind == "product":
            return operator @ other, matrix @ m
        return (operator + other, matrix + m) if kind == "sum" else (operator - other, matrix - m)
    if kind == "scaled":
        factor = rng.choice([-1.5, 0.0, 2.0])
        return factor * operator, factor * matrix
    if kind == "transposed":
        return operator.T, matrix.T
    eye = torch.eye(N, dtype=F64)
    if kind == "shift":
        return operator + 0.5 * identity_like(operator), matrix + 0.5 * eye
    if kind == "inverse":
        damping = 1 + 3 * float(torch.linalg.matrix_norm(matrix, 2))
        return inverse(operator, damping), torch.linalg.inv(matrix + damping * eye)
    groups = [[5, 1], [0, 2, 3, 4]]
    masked = torch.zeros_like(matrix)
    for group in groups:
        index = torch.tensor(group)
        masked[index.unsqueeze(1), index] = matrix[index.unsqueeze(1), index]
    return block_diagonal(operator, by=groups, dense=rng.random() < 0.5), masked


def check(operator, matrix):
    scale = max(float(matrix.norm()), 1e-3)

    def same(got, want):
        assert_close(got / scale, want / scale, 1e-9 * max(1.0, scale / max(float(want.norm()), 1e-30)))

    x = random(N, 2)
    same(operator @ x, matrix @ x)
    same(operator.to_dense(), matrix)
    same(operator.T @ x, matrix.T @ x)
    if operator.symmetric:
        same(matrix, matrix.T)
    if operator.positive_semidefinite:
        assert operator.symmetric
        assert torch.linalg.eigvalsh(matrix)[0] > -1e-9 * scale
    same(diagonal(operator).values, matrix.diagonal())
    assert trace(operator).estimate == pytest.approx(float(matrix.trace()), abs=1e-8 * scale)
    same(sub_matrix(operator, [4, 2]).to_dense(), matrix[[4, 2]][:, [4, 2]])
    damping = 1 + 3 * float(torch.linalg.matrix_norm(matrix, 2))
    shifted = matrix + damping * torch.eye(N, dtype=F64)
    assert_close(inverse(operator, damping, correction=0.1).T @ x, torch.linalg.inv(shifted).T @ x + 0.1 * x, 1e-9)
    if operator.symmetric:
        assert logdet(operator, damping).estimate == pytest.approx(float(torch.logdet(shifted)), rel=1e-9)
        root = square_root(operator, damping).to_dense()
        assert_close(root @ root.T, shifted, 1e-9)


@pytest.mark.parametrize("seed", range(150))
def test_random_compositions(seed):
    check(*tree(pyrandom.Random(seed), depth=4))


@pytest.mark.parametrize("seed", range(40))
def test_random_symmetric_compositions(seed):
    """Trees as a user would build them: sums, multiples and shifts of one structure."""
    rng = pyrandom.Random(seed)
    operator, matrix = leaf(rng)
    for _ in range(3):
        factor, shift = rng.choice([0.5, 2.0]), rng.choice([0.1, 1.0])
        operator = factor * operator + shift * identity_like(operator)
        matrix = factor * matrix + shift * torch.eye(N, dtype=F64)
    check(operator, matrix)


def test_structure_survives_multiples_and_shifts():
    """The inverse of a multiple of a structure plus a multiple of I costs what the structure's own does."""
    approximation = LowRank(random(5_000, 3), torch.ones(3, dtype=F64))
    operator = 2 * approximation + 0.5 * identity_like(approximation)
    x = random(5_000)
    got = inverse(operator, 0.25)
    assert_close(operator @ (got @ x) + 0.25 * (got @ x), x, 1e-10)
    assert logdet(operator, 0.25).exact
    assert trace(operator).exact
    assert diagonal(operator).exact


def test_factored_damping_in_closed_form():
    a, b = spd(3), spd(4, seed=2)
    got = factored_damping(Kronecker(a, b), 0.09)
    pi = float((a.trace() / 3 / (b.trace() / 4)).sqrt())
    want = torch.kron(a + 0.3 * pi * torch.eye(3, dtype=F64), b + 0.3 / pi * torch.eye(4, dtype=F64))
    assert_close(got.to_dense(), want)
    assert_close(inverse(got).to_dense(), torch.linalg.inv(want))
    assert isinstance(inverse(got), Kronecker)
    d = Diagonal(random(5).abs())
    blocks = factored_damping(BlockDiagonal([Kronecker(a, b), d]), 0.09)
    assert_close(blocks.to_dense(), torch.block_diag(want, torch.diag(d.values + 0.09)))
    with pytest.raises(ValueError, match="Expected a finite damping ≥ 0, got -1"):
        factored_damping(d, -1)


def test_factored_damping_is_exact_for_multiples_of_the_identity_alone():
    k = Kronecker(2 * torch.eye(2, dtype=F64), 8 * torch.eye(3, dtype=F64))
    got, exact = factored_damping(k, 0.25).to_dense(), k.to_dense() + 0.25 * torch.eye(6, dtype=F64)
    assert (got - exact).diagonal().min() > 0  # the cross terms are what is approximate
