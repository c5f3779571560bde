"""What every operator must do, against its dense float64 matrix: inherited by one test class per operator."""

import numpy as np
import pytest
import scipy.sparse.linalg as sla
import torch

import quadric.linalg as ql
from oracles import assert_close
from quadric.operators import Identity, NotPositiveDefinite, Zero, block_diagonal, identity_like, sub_matrix

F64 = torch.float64


def random(*shape, seed=1):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=F64)


def spd(n, seed=1, shift=0.5):
    a = random(n, n, seed=seed)
    return a @ a.T / n + shift * torch.eye(n, dtype=F64)


def orthogonal(n, seed=1):
    return torch.linalg.qr(random(n, n, seed=seed))[0]


class OperatorSuite:
    """Subclasses give `make(dtype)`: an operator, and the float64 matrix that it should be."""

    tolerance = 1e-10
    closed_root = True

    def make(self, dtype=F64):
        raise NotImplementedError

    def build(self):
        operator, matrix = self.make()
        return operator, matrix, matrix.shape[0] == matrix.shape[1]

    def definite(self):
        """Whether queries for positive definite operators apply, after a damping of 0.3."""
        operator, matrix, square = self.build()
        return operator, matrix, square and operator.symmetric and torch.linalg.eigvalsh(matrix)[0] > -0.2

    # ---- products

    def test_products(self):
        operator, matrix, _ = self.build()
        assert operator.shape == tuple(matrix.shape)
        x = random(operator.shape[1])
        assert_close(operator @ x, matrix @ x, self.tolerance)
        for k in (1, 3):
            x = random(operator.shape[1], k)
            kept = x.clone()
            assert_close(operator @ x, matrix @ x, self.tolerance)
            assert torch.equal(x, kept)
        assert (operator @ x[:, :0]).shape == (operator.shape[0], 0)
        assert_close(operator @ random(3, operator.shape[1]).T, matrix @ random(3, operator.shape[1]).T, self.tolerance)

    def test_to_dense(self):
        operator, matrix, _ = self.build()
        assert_close(operator.to_dense(), matrix, self.tolerance)
        with pytest.raises(ValueError, match=r"to_dense refuses above 1\. Pass limit="):
            operator.to_dense(limit=1)

    def test_the_dense_matrix_is_a_copy(self):
        operator, matrix, _ = self.build()
        operator.to_dense().zero_()
        assert_close(operator.to_dense(), matrix, self.tolerance)

    def test_adjoint(self):
        operator, matrix, _ = self.build()
        assert_close(operator.T.to_dense(), matrix.T, self.tolerance)
        assert_close(operator.T.T.to_dense(), matrix, self.tolerance)
        x, y = random(operator.shape[1]), random(operator.shape[0], seed=2)
        assert_close(y @ (operator @ x), (operator.T @ y) @ x, 1e-9)
        assert operator.T.domain.same_as(operator.codomain)

    def test_linearity(self):
        operator, _, _ = self.build()
        x, y = random(operator.shape[1], seed=3), random(operator.shape[1], seed=4)
        assert_close(operator @ (2 * x - 3 * y), 2 * (operator @ x) - 3 * (operator @ y), self.tolerance)

    def test_algebra(self):
        operator, matrix, square = self.build()
        assert_close((2 * operator - operator / 4).to_dense(), 1.75 * matrix, self.tolerance)
        assert_close((operator @ operator.T).to_dense(), matrix @ matrix.T, self.tolerance)
        assert_close((-operator.T @ operator).to_dense(), -matrix.T @ matrix, self.tolerance)
        assert_close((operator * torch.tensor(2.0) + Zero(operator.domain, operator.codomain)).to_dense(), 2 * matrix)
        if square:
            eye = torch.eye(len(matrix), dtype=F64)
            assert_close((operator + 3 * identity_like(operator)).to_dense(), matrix + 3 * eye, self.tolerance)
        else:
            with pytest.raises(ValueError, match="has a domain and a codomain, not one space"):
                identity_like(operator)

    def test_float32(self):
        operator, matrix = self.make(torch.float32)
        x = random(operator.shape[1], 2)
        assert operator.dtype == torch.float32
        assert (operator @ x.float()).dtype == torch.float32
        assert_close(operator @ x.float(), matrix @ x, 1e-4)

    def test_bad_input(self):
        operator, _, _ = self.build()
        n = operator.shape[1]
        with pytest.raises(ValueError, match=rf"Expected a tensor \[n\] or \[n, k\] with n = {n}, got shape"):
            operator @ torch.zeros(n + 1, dtype=F64)
        with pytest.raises(ValueError, match=r"Expected dtype torch.float64, got torch.float32"):
            operator @ torch.zeros(n)
        with pytest.raises(ValueError, match="Expected device cpu, got meta"):
            operator @ torch.zeros(n, dtype=F64, device="meta")
        with pytest.raises(TypeError, match=r"Expected a torch\.Tensor"):
            operator @ np.zeros(n)
        with pytest.raises(ValueError, match="Can't add operators of shape"):
            operator + Zero(Identity(operator.domain).space, quadric_space(operator.shape[0] + 1))
        with pytest.raises(ValueError, match="Can't compose operators of shape"):
            operator @ Identity(quadric_space(n + 1))
        with pytest.raises(TypeError, match="unsupported operand"):
            operator * object()

    # ---- claims

    def test_claims_are_true(self):
        operator, matrix, square = self.build()
        for op, m in ((operator, matrix), (-1 * operator, -matrix), (operator.T, matrix.T)):
            if op.symmetric:
                assert square
                assert_close(m, m.T, self.tolerance)
            if op.positive_semidefinite:
                assert op.symmetric
                assert torch.linalg.eigvalsh(m)[0] >= -1e-12 * m.norm()

    # ---- SciPy

    def test_scipy(self):
        operator, matrix, _ = self.build()
        scipy, m, n = operator.to_scipy(), *operator.shape
        assert scipy.shape == (m, n)
        assert scipy.dtype == np.float64
        for x in (np.arange(n, dtype=float), np.ones((n, 1)), np.asfortranarray(np.ones((n, 2)))):
            np.testing.assert_allclose(scipy @ x, matrix.numpy() @ x, rtol=1e-9, atol=1e-9)
        np.testing.assert_allclose(scipy.T @ np.ones(m), matrix.T.numpy() @ np.ones(m), rtol=1e-9, atol=1e-9)
        b = (matrix @ torch.ones(n, dtype=F64)).numpy()
        x = sla.lsmr(scipy, b, atol=1e-13, btol=1e-13, maxiter=10 * n)[0]
        np.testing.assert_allclose(matrix.numpy() @ x, b, rtol=1e-6, atol=1e-6)

    def test_scipy_symmetric(self):
        operator, matrix, _ = self.build()
        if not operator.symmetric:
            pytest.skip("not symmetric")
        values = torch.linalg.eigvalsh(matrix)
        if values.norm() > 0:
            start = np.ones(len(matrix)) + np.arange(len(matrix)) / 7
            got = sla.eigsh(operator.to_scipy(), k=1, which="LA", return_eigenvectors=False, v0=start)
            np.testing.assert_allclose(got, values[-1:].numpy(), rtol=1e-8, atol=1e-8)
        shifted = operator + (1 - min(0.0, float(values[0]))) * identity_like(operator)
        b = random(len(matrix)).numpy()
        want = np.linalg.solve(shifted.to_dense().numpy(), b)
        for solver in (sla.cg, sla.minres):
            np.testing.assert_allclose(solver(shifted.to_scipy(), b, rtol=1e-11)[0], want, rtol=1e-6, atol=1e-8)

    # ---- queries

    def test_diagonal_and_trace(self):
        operator, matrix, square = self.build()
        if not square:
            for query in (ql.diagonal, ql.trace, ql.inverse, ql.logdet, ql.square_root):
                with pytest.raises(ValueError, match="has a domain and a codomain, not one space"):
                    query(operator)
            return
        eye = torch.eye(len(matrix), dtype=F64)
        for op, m in ((operator, matrix), (2 * operator.T + identity_like(operator), 2 * matrix.T + eye)):
            got = ql.diagonal(op)
            assert got.exact
            assert_close(got.values, m.diagonal(), self.tolerance)
            assert got.standard_error.eq(0).all()
            total = ql.trace(op)
            assert total.exact
            assert total.estimate == pytest.approx(float(m.trace()), rel=1e-9, abs=1e-9)

    def test_inverse(self):
        operator, matrix, square = self.build()
        if not square:
            return
        if operator.symmetric:
            damping = float(0.3 - min(torch.linalg.eigvalsh(matrix)[0], torch.tensor(0.0)))
        else:
            damping = 5 * float(matrix.norm())
        want = torch.linalg.inv(matrix + damping * torch.eye(len(matrix), dtype=F64))
        inverse = ql.inverse(operator, damping)
        assert_close(inverse.to_dense(), want, 1e-8)
        assert_close(inverse.T.to_dense(), want.T, 1e-8)
        assert inverse.symmetric == operator.symmetric
        assert inverse.positive_semidefinite or not operator.symmetric
        assert_close(ql.inverse(inverse).to_dense(), matrix + damping * torch.eye(len(matrix), dtype=F64), 1e-8)
        corrected = ql.inverse(operator, damping, correction=0.7)
        eye = torch.eye(len(matrix), dtype=F64)
        assert_close(corrected.to_dense(), want + 0.7 * eye, 1e-8)
        assert_close(ql.inverse(corrected).to_dense(), torch.linalg.inv(want + 0.7 * eye), 1e-7)
        assert_close(ql.inverse(2 * operator + 2 * damping * identity_like(operator)).to_dense(), want / 2, 1e-8)

    @pytest.mark.parametrize("solver", ["dense", "cg", "minres", "lsmr"])
    def test_inverse_by_a_solver(self, solver):
        operator, matrix, square = self.build()
        if not square or (solver in ("cg", "minres") and not operator.symmetric):
            return
        damping = float(0.3 - min(torch.linalg.eigvalsh((matrix + matrix.T) / 2)[0], torch.tensor(0.0)))
        want = torch.linalg.inv(matrix + damping * torch.eye(len(matrix), dtype=F64))
        b = random(len(matrix), 2)
        inverse = ql.inverse(operator, damping, solver=solver, tol=1e-11)
        assert_close(inverse @ b, want @ b, 1e-8)
        assert_close(inverse.T @ b, want.T @ b, 1e-8)
        assert_close(ql.inverse(inverse) @ b, matrix @ b + damping * b, 1e-9)

    def test_logdet_and_square_root(self):
        operator, matrix, definite = self.definite()
        if not definite:
            return
        shifted = matrix + 0.3 * torch.eye(len(matrix), dtype=F64)
        assert ql.logdet(operator, 0.3).estimate == pytest.approx(float(torch.logdet(shifted)), rel=1e-9, abs=1e-9)
        inverse = ql.inverse(operator, 0.3)
        assert ql.logdet(inverse).estimate == pytest.approx(-float(torch.logdet(shifted)), rel=1e-9, abs=1e-9)
        for op, want in ((operator + 0.3 * identity_like(operator), shifted), (inverse, torch.linalg.inv(shifted))):
            root = ql.square_root(op).to_dense()
            assert_close(root @ root.T, want, 1e-9)

    def test_an_indefinite_one_is_refused(self):
        operator, matrix, square = self.build()
        if not (square and operator.symmetric):
            return
        smallest = float(torch.linalg.eigvalsh(matrix)[0])
        lowered = operator - (smallest + 1) * identity_like(operator)
        for query in (ql.inverse, ql.logdet, ql.square_root):
            with pytest.raises(NotPositiveDefinite, match="not positive definite: the smallest eigenvalue") as error:
                query(lowered, 0.25)
            assert error.value.smallest == pytest.approx(-0.75, rel=1e-6)
            said = float(str(error.value).split("A damping of ")[1].split(" would do")[0])
            query(lowered, said)
        with pytest.raises(NotPositiveDefinite, match=r"The operator is singular .* without damping it has no inverse"):
            ql.inverse(operator if abs(smallest) < 1e-12 else operator - smallest * identity_like(operator))

    def test_restriction(self):
        operator, matrix, square = self.build()
        if not square:
            return
        n = len(matrix)
        index = [n - 1, 0, 2]
        part = sub_matrix(operator, index)
        assert_close(part.to_dense(), matrix[index][:, index], self.tolerance)
        assert part.symmetric == operator.symmetric
        assert_close(sub_matrix(operator, slice(1, n), [0, 2]).to_dense(), matrix[1:, [0, 2]], self.tolerance)
        groups = [list(range(1, n)), [0]]
        for dense in (False, True):
            got = block_diagonal(2 * operator, by=groups, dense=dense)
            want = torch.zeros_like(matrix)
            want[0, 0], want[1:, 1:] = 2 * matrix[0, 0], 2 * matrix[1:, 1:]
            assert_close(got.to_dense(), want, self.tolerance)
            assert_close(got @ random(n), want @ random(n), self.tolerance)


def quadric_space(n):
    from quadric.core.space import Space

    return Space.euclidean(n, F64)
