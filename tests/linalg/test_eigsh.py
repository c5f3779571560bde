"""Extremal eigenpairs against LAPACK on planted spectra: no error above its bound, no copy missed in silence."""

import math
import sys

import pytest
import torch
from scipy.sparse.linalg import eigsh as scipy_eigsh
from torch import nn

import quadric
from linalg.opaque import F64, Opaque
from linalg.spectra import SPECTRA, planted, wanted
from operators.suite import orthogonal, random
from oracles import assert_close
from quadric import NotConverged, eigsh
from quadric.linalg import Eigenpairs, lobpcg
from quadric.linalg.extent import chain_bounds
from quadric.linalg.krylov import Krylov
from quadric.operators import Dense, Diagonal, identity_like


def check(got, matrix, values, k, which, floor):
    """Every claim of the result, against the matrix and all of its eigenvalues."""
    want = wanted(values, k, which)
    magnitude = which == "LM"  # of ±λ either may be listed
    off = (got.eigenvalues.abs() - want.abs()).abs() if magnitude else (got.eigenvalues - want).abs()
    assert bool((off <= got.errors + floor).all()), (off / got.errors).max()
    x = got.eigenvectors.double()
    left = (matrix @ x - x * got.eigenvalues).norm(dim=0)
    assert bool((left <= got.residuals + floor).all()), (left / got.residuals).max()
    assert_close(x.T @ x, torch.eye(k, dtype=F64), 1e-5 if got.eigenvectors.dtype == torch.float32 else 1e-10)
    if not magnitude:
        rest = values.clone()
        listed = rest.argsort(descending=True) if which == "LA" else rest.argsort()
        if which == "BE":
            listed = torch.cat([rest.argsort(descending=True)[: k - k // 2], rest.argsort()[: k // 2]])
        rest[listed[:k]] = math.nan
        rest = rest[~rest.isnan()]
        assert float(rest.max()) <= got.upper + floor
        assert float(rest.min()) >= got.lower - floor


@pytest.mark.parametrize("dtype", [F64, torch.float32])
@pytest.mark.parametrize("basis", [None, 40])
@pytest.mark.parametrize("which", ["LA", "SA", "LM", "BE"])
@pytest.mark.parametrize("name", SPECTRA)
@pytest.mark.filterwarnings("ignore:eigsh stopped")
def test_planted_spectra(name, which, basis, dtype):
    operator, matrix, values = planted(SPECTRA[name], dtype=dtype)
    got = eigsh(operator, 7, which, basis=basis)
    floor = 1e-13 * max(1.0, float(values.abs().max()))
    check(got, matrix, values, 7, which, floor)
    assert got.products == operator.columns
    assert got.eigenvectors.dtype == dtype
    assert got.converged == bool((got.errors <= got.tol * got.scale).all())
    assert got.converged or dtype == torch.float32


@pytest.mark.parametrize("dtype", [F64, torch.float32])
@pytest.mark.parametrize("which", ["LA", "SA", "LM", "BE"])
@pytest.mark.parametrize("name", SPECTRA)
@pytest.mark.filterwarnings("ignore:eigsh stopped")
def test_eigenvalues_alone_are_within_their_errors(name, which, dtype):
    operator, _, values = planted(SPECTRA[name], dtype=dtype)
    got = eigsh(operator, 7, which, return_eigenvectors=False)
    assert got.eigenvectors.shape == (300, 0)
    floor = 1e-13 * max(1.0, float(values.abs().max()))
    found, want = got.eigenvalues, wanted(values, 7, which)
    if which == "LM":  # signs may change places
        found, want = found.abs(), want.abs()
    assert bool(((found - want).abs() <= got.errors + floor).all())
    assert got.converged == bool((got.errors <= got.tol * got.scale).all())
    assert got.converged or dtype == torch.float32


def test_eigenvalues_alone_take_fewer_products():
    """Errors are quadratic in the residuals where the wanted stand clear of the rest."""
    operator, _, values = planted(0.99 ** torch.arange(1_000, dtype=F64))
    with_vectors = eigsh(operator, 5)
    alone = eigsh(operator, 5, return_eigenvectors=False)
    assert alone.products < with_vectors.products
    assert bool(((alone.eigenvalues - wanted(values, 5, "LA")).abs() <= alone.errors + 1e-13).all())
    assert alone.converged
    assert float(alone.residuals.max()) > alone.tol * alone.scale


def test_what_an_earlier_chain_left_is_taken_up():
    """The look for copies ends with residuals a little above the tolerance: few products more, not hundreds."""
    operator, matrix, values = planted(0.995 ** torch.arange(1_500, dtype=F64))
    got = eigsh(operator, 5, tol=1e-4)
    check(got, matrix, values, 5, "LA", 1e-12)
    assert got.products < 200


@pytest.mark.parametrize(("seed", "which"), [(5, "SA"), (15, "LA"), (24, "LA"), (24, "SA"), (39, "LA"), (56, "SA")])
def test_what_was_found_and_is_not_listed_is_within_the_bounds(seed, which):
    """A small basis, in which unlisted copies are left when the look for others ends without having been sure."""
    generator = torch.Generator().manual_seed(seed)
    distinct = torch.randn(60, generator=generator, dtype=F64)
    values = distinct.repeat_interleave(torch.randint(1, 6, (60,), generator=generator))
    operator, matrix, every = planted(values, seed)
    check(eigsh(operator, 3, which, basis=40, seed=seed), matrix, every, 3, which, 1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("which", ["LA", "SA", "LM", "BE"])
@pytest.mark.parametrize("seed", range(100))
def test_many_seeds(which, seed):
    """Chance takes no copy away: spectra of random multiplicities, random starts."""
    generator = torch.Generator().manual_seed(seed)
    distinct = torch.randn(60, generator=generator, dtype=F64)
    values = distinct.repeat_interleave(torch.randint(1, 6, (60,), generator=generator))
    operator, matrix, every = planted(values, seed)
    got = eigsh(operator, 10, which, seed=seed)
    check(got, matrix, every, 10, which, 1e-12)
    assert got.converged
    alone = eigsh(operator, 10, which, seed=seed, return_eigenvectors=False)
    found, want = alone.eigenvalues, wanted(every, 10, which)
    if which == "LM":
        found, want = found.abs(), want.abs()
    assert bool(((found - want).abs() <= alone.errors + 1e-12).all())


@pytest.mark.slow
def test_two_thousand():
    operator, matrix, values = planted(torch.cat([torch.tensor([9.0] * 4), torch.linspace(-2, 2, 1996)]).to(F64))
    got = eigsh(operator, 10, "LA")
    check(got, matrix, values, 10, "LA", 1e-12)
    assert got.converged


@pytest.mark.parametrize(("k", "which"), [(1, "LA"), (1, "BE"), (2, "BE"), (299, "SA"), (300, "LM")])
def test_few_and_all(k, which):
    operator, matrix, values = planted(SPECTRA["indefinite"])
    check(eigsh(operator, k, which), matrix, values, k, which, 1e-12)


def test_a_small_matrix_is_decomposed():
    operator, matrix, values = planted(torch.linspace(-1, 2, 25, dtype=F64))
    got = eigsh(operator, 3)
    check(got, matrix, values, 3, "LA", 0.0)
    assert got.products == 25
    assert got.reason == "the whole matrix was decomposed"
    assert got.upper == pytest.approx(float(values[-4]))


def test_it_takes_fewer_products_than_scipy_and_agrees():
    values = torch.cat([torch.linspace(5, 10, 6), torch.linspace(0, 1, 994)]).to(F64)
    ours, matrix, every = planted(values)
    theirs = Opaque(ours.inner)
    got = eigsh(ours, 6)
    found = scipy_eigsh(theirs.to_scipy(), 6, which="LA", tol=1e-6, return_eigenvectors=False)
    assert_close(got.eigenvalues.flip(0), torch.as_tensor(found.copy()), 1e-6)
    check(got, matrix, every, 6, "LA", 1e-12)
    assert ours.columns <= theirs.columns


def test_a_restart_keeps_the_decomposition():
    """A V = V H + F E, V orthonormal and F orthogonal to it, whatever was done."""
    operator, matrix, _ = planted(SPECTRA["indefinite"])
    krylov, generator = Krylov(operator, 30), torch.Generator().manual_seed(0)

    def holds():
        v = krylov.combine(torch.eye(krylov.size, dtype=F64))
        outside = torch.stack([krylov.outside(e) for e in torch.eye(krylov.size, dtype=F64)], dim=1)
        assert_close(matrix @ v, v @ krylov.h + outside, 1e-12)
        assert_close(v.T @ v, torch.eye(krylov.size, dtype=F64), 1e-13)
        assert float((v.T @ outside).abs().max()) < 1e-12
        assert_close(krylov.e.T @ krylov.e, outside.T @ outside, 1e-12)

    for _ in range(3):
        krylov.start(generator)
        for _ in range(9):
            krylov.expand()
            holds()
        theta, vectors = torch.linalg.eigh(krylov.h)
        krylov.restart(vectors[:, -12:], theta[-12:])
        holds()


def test_the_bounds_on_what_a_chain_has_not_seen():
    """They fail with the probability that they admit, and no more; 60 steps of Lanczos bring them close."""
    values = torch.linspace(-1, 1, 120, dtype=F64)
    operator, _, every = planted(values)
    failed, gaps = 0, []
    for seed in range(100):
        krylov = Krylov(operator, 40)
        krylov.start(torch.Generator().manual_seed(seed))
        for _ in range(25):
            krylov.expand()
        low, high = chain_bounds(krylov.steps, 120, 0.2)
        failed += int(high < every[-1]) + int(low > every[0])
        gaps.append(high - float(every[-1]))
    assert failed <= 2 * 0.2 * 100 + 3 * math.sqrt(2 * 100 * 0.2)
    assert 0 < sum(gaps) / 100 < 0.1


def test_more_than_fifty_steps_stay_orthogonal_in_float32():
    operator, matrix, _ = planted(SPECTRA["uniform"], dtype=torch.float32)
    krylov = Krylov(operator, 200)
    krylov.start(torch.Generator().manual_seed(0))
    for _ in range(200):
        krylov.expand()
    v = krylov.combine(torch.eye(200, dtype=F64)).double()
    assert float((v.T @ v - torch.eye(200, dtype=F64)).abs().max()) < 1e-5
    ritz = torch.linalg.eigvalsh(krylov.h)
    assert float((ritz[-5:] - torch.linalg.eigvalsh(matrix)[-5:]).abs().max()) < 1e-5


# ---- what a model brings


def network(norm=False):
    torch.manual_seed(0)
    middle = [nn.BatchNorm1d(8)] if norm else []
    return nn.Sequential(nn.Linear(10, 8), *middle, nn.Tanh(), nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 3)).double()


def batches(*sizes):
    torch.manual_seed(1)
    return [(torch.randn(size, 10, dtype=F64), torch.randint(3, (size,))) for size in sizes]


@pytest.mark.parametrize("norm", [False, True])
@pytest.mark.parametrize("which", ["LA", "SA", "LM"])
def test_uneven_batches_and_batch_norm_in_train_mode(which, norm):
    """Against the Hessian by double backward (tests/oracles), averaged over examples."""
    from oracles import derivatives

    model, data = network(norm), batches(30, 7, 1 if not norm else 3)
    matrix = derivatives.hessian(model, nn.CrossEntropyLoss(), data)
    operator = quadric.Hessian(quadric.Objective(model, nn.CrossEntropyLoss()), data)
    got = eigsh(operator, 5, which, basis=60)
    check(got, matrix, torch.linalg.eigvalsh(matrix), 5, which, 1e-12)


class Reordered:
    """The same examples in another order, in batches of 4, at each reading."""

    def __init__(self, data):
        self.data, self.generator = data, torch.Generator().manual_seed(0)

    def __iter__(self):
        inputs, targets = self.data
        order = torch.randperm(len(targets), generator=self.generator)
        return iter([(inputs[i], targets[i]) for i in order.split(4)])


class Augmented(Reordered):
    """Other examples at each reading."""

    def __iter__(self):
        inputs, targets = self.data
        noise = 0.1 * torch.randn(inputs.shape, generator=self.generator, dtype=inputs.dtype)
        return iter([(inputs + noise, targets)])


def test_a_loader_may_reorder_examples():
    (data,) = batches(21)
    objective = quadric.Objective(network(), nn.CrossEntropyLoss())
    got = eigsh(quadric.Hessian(objective, Reordered(data)), 3, basis=40)
    want = eigsh(quadric.Hessian(objective, data), 3)
    assert_close(got.eigenvalues, want.eigenvalues, 1e-6)


REFUSING = {
    "eigsh": lambda op: eigsh(op, 2),
    "trace": quadric.trace,
    "frobenius_norm": quadric.frobenius_norm,
    "diagonal": lambda op: quadric.diagonal(op),
    "spectral_density": quadric.spectral_density,
    "low_rank": lambda op: quadric.low_rank(op, 2),
    "cg": lambda op: quadric.inverse(op, 1.0, solver="cg") @ torch.ones(op.shape[0], dtype=F64),
    "minres": lambda op: quadric.linalg.minres(2 * op + identity_like(op), torch.ones(op.shape[0], dtype=F64)),
}


@pytest.mark.parametrize("name", REFUSING)
def test_a_loader_of_other_examples_is_refused(name):
    objective = quadric.Objective(network(), nn.CrossEntropyLoss())
    operator = quadric.Hessian(objective, Augmented(batches(21)[0]))
    with pytest.raises(ValueError, match="The data differ from one reading to the next: the loss was"):
        REFUSING[name](operator)


def test_nan_weights_are_refused():
    model = network()
    with torch.no_grad():
        model[0].weight[0, 0] = math.nan
    operator = quadric.Hessian(quadric.Objective(model, nn.CrossEntropyLoss()), batches(9)[0])
    with pytest.raises(ValueError, match="the parameters or activations hold NaN or infinity"):
        eigsh(operator, 2)


@pytest.mark.parametrize("n", [50, 400])
def test_products_that_are_not_finite(n):
    matrix = torch.full((n, n), math.nan, dtype=F64)
    with pytest.raises(ValueError, match="A product of the operator is not finite"):
        eigsh(quadric.claim_symmetric(Opaque(Dense(matrix))), 2)


# ---- saving, warnings, arguments, progress


def test_results_come_back_from_a_file(tmp_path):
    got = eigsh(planted(SPECTRA["exponential"])[0], 4)
    path = got.save(tmp_path / "top.npz")
    back = Eigenpairs.load(path)
    assert torch.equal(back.eigenvectors, got.eigenvectors)
    assert torch.equal(back.eigenvalues, got.eigenvalues)
    assert (back.products, back.upper, back.lower, back.reason) == (got.products, got.upper, got.lower, got.reason)
    assert [p.name for p in tmp_path.iterdir()] == ["top.npz"]
    with pytest.raises(ValueError, match=r"top\.npz holds Eigenpairs, not Estimate"):
        quadric.operators.Estimate.load(path)
    (tmp_path / "other.npz").write_bytes(b"not a result")
    with pytest.raises(ValueError, match=r"other\.npz is not a result that quadric saved"):
        Eigenpairs.load(tmp_path / "other.npz")


def test_more_products_than_the_default_are_no_reason_to_give_up_earlier():
    values = torch.cat([torch.linspace(0, 0.5, 460, dtype=F64), 1 + torch.linspace(0, 1e-5, 40, dtype=F64)])
    operator, matrix, _ = planted(values)
    want = torch.linalg.eigvalsh(matrix).flip(0)[:10]
    for most in (None, 5000, 1001):
        got = eigsh(operator, 10, max_products=most)
        assert got.converged
        assert got.products <= 1001
        assert_close(got.eigenvalues, want, 1e-9)


def test_eigenpairs_that_memory_cannot_hold_are_refused_before_any_work(monkeypatch):
    operator = Opaque(Diagonal(torch.ones(100_000, dtype=F64)))
    with pytest.raises(ValueError, match=r"k = 60,000 eigenpairs of dimension 100,000 take .* GiB"):
        eigsh(operator, 60_000)
    assert operator.columns == 0
    monkeypatch.setattr(sys.modules["quadric.linalg.eigsh"], "memory_limit", lambda device: 2**27)
    with pytest.raises(ValueError, match=r"the whole matrix and its eigenvectors, and the memory is 0\.1 GiB in all"):
        eigsh(Opaque(Diagonal(torch.ones(3000, dtype=F64))), 1500)


def test_running_out_of_products_is_not_silent():
    operator, matrix, _ = planted(SPECTRA["uniform"])
    with pytest.warns(NotConverged, match=r"eigsh stopped after 31 products .* products ran out \(max_products\)"):
        got = eigsh(operator, 4, max_products=30)
    assert not got.converged
    x = got.eigenvectors
    assert bool(((matrix @ x - x * got.eigenvalues).norm(dim=0) <= got.residuals).all())
    assert float(got.residuals.max()) > got.tol * got.scale
    with pytest.warns(NotConverged, match=r"before a look for missed copies ended"):
        looked = eigsh(planted(SPECTRA["exponential"])[0], 4, max_products=20)
    assert not looked.converged
    assert looked.upper > 1
    with pytest.warns(NotConverged, match=r"eigsh stopped after 31 products with errors up to .*max_products"):
        got = eigsh(operator, 4, max_products=30, return_eigenvectors=False)
    assert float(got.errors.max()) > got.tol * got.scale


def test_a_false_claim_of_symmetry_shows_in_the_residuals():
    matrix = random(300, 300)
    with pytest.warns(NotConverged, match="eigsh stopped after"):
        got = eigsh(quadric.claim_symmetric(Opaque(Dense(matrix))), 3, max_products=299)
    x = got.eigenvectors
    assert bool(((matrix @ x - x * got.eigenvalues).norm(dim=0) <= 3 * got.residuals).all())


def test_one_seed_is_one_answer():
    operator, _, _ = planted(SPECTRA["triples"])
    state = torch.get_rng_state()
    assert torch.equal(eigsh(operator, 3, seed=4).eigenvectors, eigsh(operator, 3, seed=4).eigenvectors)
    assert torch.equal(state, torch.get_rng_state())


def test_progress_is_told():
    lines = []
    eigsh(planted(SPECTRA["uniform"])[0], 3, progress=lines.append)
    assert len(lines) > 5
    assert "products, residual" in lines[-1]


REFUSED = [
    (lambda o: eigsh(o, 0), "Expected k from 1 to 300, the dimension, got 0"),
    (lambda o: eigsh(o, 301), "Expected k from 1 to 300, the dimension, got 301"),
    (lambda o: eigsh(o, 2.0), r"Expected k from 1 to 300, the dimension, got 2\.0"),
    (lambda o: eigsh(o, 2, "LR"), "Unknown which 'LR'. Did you mean"),
    (lambda o: eigsh(o, 2, tol=0), "Expected a tolerance between 0 and 1"),
    (lambda o: eigsh(o, 2, tol=math.nan), "Expected a tolerance between 0 and 1"),
    (lambda o: eigsh(o, 5, basis=7), r"Expected a basis of at least k \+ 3 = 8 vectors, got 7"),
    (lambda o: eigsh(o, 5, max_products=4), "Expected max_products of at least k = 5, got 4"),
    (lambda o: eigsh(Dense(random(4, 4)), 2), "eigsh needs a symmetric operator, and this Dense of shape"),
    (lambda o: eigsh(Dense(random(3, 4)), 2), "not one space"),
    (lambda o: eigsh(o, 2, preconditioner=identity_like(o)), "A preconditioner is for the smallest eigenvalues"),
    (lambda o: eigsh(o, 2, "SA", preconditioner=Diagonal(random(4))), "The preconditioner has shape"),
]


@pytest.mark.parametrize(("call", "message"), REFUSED)
def test_refusals(call, message):
    with pytest.raises(ValueError, match=message):
        call(planted(SPECTRA["uniform"])[0])


# ---- LOBPCG


def stiff(dtype=F64):
    """Eigenvalues near 1 to 1e5, and the inverse of the diagonal."""
    w = orthogonal(300) * 0.3
    matrix = torch.diag(torch.logspace(0, 5, 300, dtype=F64)) + w + w.T
    return matrix.to(dtype), Diagonal((1 / matrix.diagonal()).to(dtype))


@pytest.mark.parametrize("dtype", [F64, torch.float32])
def test_a_preconditioner_finds_the_bottom(dtype):
    matrix, preconditioner = stiff(dtype)
    operator = Opaque(Dense(matrix))
    tol = 1e-8 if dtype == F64 else 1e-6
    got = eigsh(operator, 5, "SA", tol, preconditioner=preconditioner)
    want = torch.linalg.eigvalsh(matrix.double())[:5]
    assert got.converged
    assert got.products == operator.columns < 200
    assert bool(((got.eigenvalues - want).abs() <= got.residuals).all())
    x = got.eigenvectors.double()
    left = (matrix.double() @ x - x * got.eigenvalues).norm(dim=0)
    assert bool((left <= 1.5 * got.residuals + 1e-12).all())


def test_lobpcg_on_multiple_eigenvalues_and_small_spaces():
    values = torch.cat([torch.tensor([1.0, 1, 1, 2, 2], dtype=F64), torch.linspace(3, 50, 95, dtype=F64)])
    operator, _, every = planted(values)
    assert_close(lobpcg(operator, 5, identity_like(operator), tol=1e-8).eigenvalues, every[:5], 1e-9)
    tiny, _, every = planted(torch.tensor([1.0, 2, 3], dtype=F64))
    assert_close(lobpcg(tiny, 2, identity_like(tiny)).eigenvalues, every[:2], 1e-9)


def test_lobpcg_gives_up_loudly():
    matrix, _ = stiff()
    operator = Opaque(Dense(matrix))
    for run in (lobpcg, lambda *given, **more: eigsh(given[0], given[1], "SA", preconditioner=given[2], **more)):
        with pytest.warns(NotConverged, match=r"lobpcg stopped after .* products ran out") as caught:
            assert not run(operator, 3, identity_like(operator), max_products=60).converged
        assert len(caught) == 1


def test_lobpcg_tells_of_its_progress():
    matrix, preconditioner = stiff()
    lines = []
    eigsh(Opaque(Dense(matrix)), 3, "SA", preconditioner=preconditioner, progress=lines.append)
    assert len(lines) > 3
    assert "products, residual" in lines[-1]
