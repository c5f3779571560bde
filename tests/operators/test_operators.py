"""One class per operator: what it is; what it must do is inherited."""

import pytest
import torch

from operators.suite import F64, OperatorSuite, orthogonal, quadric_space, random, spd
from oracles import assert_close
from quadric.core.space import Space
from quadric.linalg import inverse, square_root
from quadric.operators import (
    BlockDiagonal,
    Claimed,
    Dense,
    Diagonal,
    EigenKronecker,
    Identity,
    Kronecker,
    LowRank,
    SubMatrix,
    Zero,
    claim_symmetric,
    sub_matrix,
)
from quadric.operators.algebra import Transposed
from quadric.operators.operator import LinearOperator
from quadric.operators.selection import Selection, select
from quadric.operators.side_by_side import SideBySide


class TestIdentity(OperatorSuite):
    def make(self, dtype=F64):
        return Identity(Space.euclidean(5, dtype)), torch.eye(5, dtype=F64)


class TestZero(OperatorSuite):
    def make(self, dtype=F64):
        return Zero(Space.euclidean(5, dtype)), torch.zeros(5, 5, dtype=F64)


class TestRectangularZero(OperatorSuite):
    def make(self, dtype=F64):
        return Zero(Space.euclidean(5, dtype), Space.euclidean(3, dtype)), torch.zeros(3, 5, dtype=F64)


class TestDense(OperatorSuite):
    def make(self, dtype=F64):
        matrix = random(5, 5)
        return Dense(matrix.to(dtype)), matrix


class TestSymmetricDense(OperatorSuite):
    def make(self, dtype=F64):
        matrix = spd(6)
        matrix = (matrix + matrix.T) / 2
        return Dense(matrix.to(dtype)), matrix


class TestIndefiniteDense(OperatorSuite):
    def make(self, dtype=F64):
        matrix = random(6, 6) + random(6, 6).T
        return Dense(matrix.to(dtype)), matrix


class TestRectangularDense(OperatorSuite):
    def make(self, dtype=F64):
        matrix = random(4, 6)
        return Dense(matrix.to(dtype)), matrix


class TestDiagonal(OperatorSuite):
    def make(self, dtype=F64):
        values = random(6)
        return Diagonal(values.to(dtype)), torch.diag(values)


class TestLowRank(OperatorSuite):
    def make(self, dtype=F64):
        vectors, values = random(7, 3), torch.tensor([2.0, 1.0, 0.5], dtype=F64)
        return LowRank(vectors.to(dtype), values.to(dtype)), vectors @ torch.diag(values) @ vectors.T


class TestIndefiniteLowRank(OperatorSuite):
    def make(self, dtype=F64):
        vectors, values = random(7, 3), torch.tensor([2.0, -1.0, 0.5], dtype=F64)
        return LowRank(vectors.to(dtype), values.to(dtype)), vectors @ torch.diag(values) @ vectors.T


class TestLowRankWithMoreColumnsThanRows(OperatorSuite):
    def make(self, dtype=F64):
        vectors, values = random(4, 6), random(6).abs()
        return LowRank(vectors.to(dtype), values.to(dtype)), vectors @ torch.diag(values) @ vectors.T


class TestBlockDiagonal(OperatorSuite):
    def make(self, dtype=F64):
        blocks = [spd(2), torch.diag(random(3).abs()), spd(4, seed=2)]
        parts = Dense(blocks[0].to(dtype)), Diagonal(blocks[1].diagonal().to(dtype)), Dense(blocks[2].to(dtype))
        return BlockDiagonal(parts), torch.block_diag(*blocks)


class TestUnsymmetricBlockDiagonal(OperatorSuite):
    def make(self, dtype=F64):
        blocks = [random(2, 2), random(3, 3, seed=2)]
        return BlockDiagonal([Dense(b.to(dtype)) for b in blocks]), torch.block_diag(*blocks)


class TestScatteredBlockDiagonal(OperatorSuite):
    def make(self, dtype=F64):
        space = Space.euclidean(6, dtype)
        places = [[4, 0, 2], [1, 5, 3]]
        blocks = [spd(3), spd(3, seed=2)]
        matrix = torch.zeros(6, 6, dtype=F64)
        for place, block in zip(places, blocks, strict=True):
            matrix[torch.tensor(place).unsqueeze(1), torch.tensor(place)] = block
        return BlockDiagonal([Dense(b.to(dtype)) for b in blocks], space, [select(space, p) for p in places]), matrix


class TestKronecker(OperatorSuite):
    def make(self, dtype=F64):
        a, b = spd(3), spd(4, seed=2)
        a, b = (a + a.T) / 2, (b + b.T) / 2
        return Kronecker(a.to(dtype), b.to(dtype)), torch.kron(a, b)


class TestUnsymmetricKronecker(OperatorSuite):
    def make(self, dtype=F64):
        a, b = random(3, 3), random(4, 4, seed=2)
        return Kronecker(a.to(dtype), b.to(dtype)), torch.kron(a, b)


class TestRectangularKronecker(OperatorSuite):
    def make(self, dtype=F64):
        a, b = random(3, 2), random(4, 5, seed=2)
        return Kronecker(a.to(dtype), b.to(dtype)), torch.kron(a, b)


class TestKroneckerOfStructures(OperatorSuite):
    def make(self, dtype=F64):
        a, b = random(3).abs(), spd(2)
        b = (b + b.T) / 2
        return Kronecker(Diagonal(a.to(dtype)), 2 * Dense(b.to(dtype))), torch.kron(torch.diag(a), 2 * b)


class TestEigenKronecker(OperatorSuite):
    def make(self, dtype=F64):
        a, b, values = orthogonal(3), orthogonal(4, seed=2), random(3, 4).abs()
        q = torch.kron(a, b)
        return EigenKronecker(a.to(dtype), b.to(dtype), values.to(dtype)), q @ torch.diag(values.reshape(-1)) @ q.T


class TestSubMatrix(OperatorSuite):
    def make(self, dtype=F64):
        matrix = spd(8)
        operator, index = 1.0 * Dense(((matrix + matrix.T) / 2).to(dtype)), [6, 1, 3, 0]
        selection = select(operator.space, index)
        return SubMatrix(operator, selection, selection), matrix[index][:, index]


class TestRectangularSubMatrix(OperatorSuite):
    def make(self, dtype=F64):
        matrix = random(5, 8)
        return sub_matrix(Dense(matrix.to(dtype)), [3, 1], slice(2, 7)), matrix[[3, 1]][:, 2:7]


class TestSum(OperatorSuite):
    def make(self, dtype=F64):
        a, d = spd(5), random(5).abs()
        return Dense(((a + a.T) / 2).to(dtype)) + Diagonal(d.to(dtype)), a + torch.diag(d)


class TestProduct(OperatorSuite):
    def make(self, dtype=F64):
        a, b = random(5, 3), random(3, 5, seed=2)
        return Dense(a.to(dtype)) @ Dense(b.to(dtype)), a @ b


class TestScaled(OperatorSuite):
    def make(self, dtype=F64):
        a = random(5, 5)
        return -2.5 * Dense(a.to(dtype)), -2.5 * a


class ByMethods(LinearOperator):
    """An operator that gives its transposed product as a method, as a Jacobian does."""

    def __init__(self, matrix):
        super().__init__(Space.euclidean(matrix.shape[1], matrix.dtype), Space.euclidean(matrix.shape[0], matrix.dtype))
        self.matrix = matrix

    def _apply(self, x):
        return self.matrix @ x

    def _apply_transposed(self, x):
        return self.matrix.T @ x

    def _transpose(self):
        return Transposed(self)


class TestTransposed(OperatorSuite):
    def make(self, dtype=F64):
        a = random(4, 6)
        return ByMethods(a.to(dtype)).T, a.T


class TestSquareTransposed(OperatorSuite):
    def make(self, dtype=F64):
        a = random(4, 4)
        return ByMethods(a.to(dtype)).T, a.T


class TestClaimed(OperatorSuite):
    def make(self, dtype=F64):
        a = random(4, 6)
        j = Dense(a.to(dtype))
        return claim_symmetric(j @ j.T, positive_semidefinite=True), a @ a.T

    def test_it_is_the_users_word(self):
        operator, _ = self.make()
        assert isinstance(operator, Claimed)
        assert operator.T is operator
        with pytest.raises(ValueError, match="not one space"):
            claim_symmetric(Dense(random(2, 3)))


class TestDenseInverse(OperatorSuite):
    def make(self, dtype=F64):
        matrix = spd(5)
        return inverse(Dense(matrix.to(dtype)), 0.1), torch.linalg.inv(matrix + 0.1 * torch.eye(5, dtype=F64))


class TestUnsymmetricInverse(OperatorSuite):
    def make(self, dtype=F64):
        matrix = random(5, 5) + 4 * torch.eye(5, dtype=F64)
        return inverse(Dense(matrix.to(dtype))), torch.linalg.inv(matrix)


class TestCorrectedLowRankInverse(OperatorSuite):
    def make(self, dtype=F64):
        u = random(6, 2)
        op = inverse(LowRank(u.to(dtype), torch.ones(2, dtype=dtype)), 0.5, correction=0.25)
        eye = torch.eye(6, dtype=F64)
        return op, torch.linalg.inv(u @ u.T + 0.5 * eye) + 0.25 * eye


class TestSolverInverse(OperatorSuite):
    tolerance = 1e-9

    def make(self, dtype=F64):
        matrix = spd(6)
        operator = inverse(
            Dense(((matrix + matrix.T) / 2).to(dtype)), 0.1, solver="cg", tol=1e-13 if dtype == F64 else 1e-6
        )
        return operator, torch.linalg.inv(matrix + 0.1 * torch.eye(6, dtype=F64))


class TestTriangularInverse(OperatorSuite):
    """The square root of an inverse."""

    def make(self, dtype=F64):
        matrix = spd(5)
        factor = torch.linalg.cholesky(matrix)
        return square_root(inverse(Dense(matrix.to(dtype)))), torch.linalg.inv(factor.T)


def test_the_identity_has_an_inverse():
    eye = Identity(quadric_space(3))
    assert_close(inverse(eye, 1.0).to_dense(), torch.eye(3, dtype=F64) / 2)
    with pytest.raises(ValueError, match="Expected a finite damping ≥ 0, got -1"):
        inverse(eye, -1)


@pytest.mark.parametrize("shape", [(3, 4), (3, 2, 2), (1, 1), (3, 0)])
def test_a_weight_beside_its_bias_is_the_selection_of_its_indices(shape):
    sizes = (torch.Size([2]), torch.Size(shape), torch.Size([5]), torch.Size(shape[:1]))
    space = Space(("a", "w", "c", "b"), sizes, (F64,) * 4, torch.device("cpu"), ("", "x", "", "x"))
    beside = SideBySide(space, 1, 3)
    listed = Selection(beside.space, beside.indices)
    for x in (torch.randn(space.numel, dtype=F64), torch.randn(space.numel, 2, dtype=F64)):
        assert torch.equal(beside.take(x), listed.take(x))
        matrix = beside.take(x).reshape(shape[0], -1, *x.shape[1:])
        w, b = x[2 : 2 + space.numels[1]], x[-shape[0] :]
        assert torch.equal(matrix[:, :-1], w.reshape(shape[0], -1, *x.shape[1:]) if w.numel() else matrix[:, :-1])
        assert torch.equal(matrix[:, -1], b)
        for out in (torch.zeros_like(x), torch.zeros_like(x).t().contiguous().t()):
            wanted = torch.zeros_like(x)
            beside.write(beside.take(x), out)
            listed.write(listed.take(x), wanted)
            assert torch.equal(out, wanted)
    assert beside.space.layers == ("x",)
