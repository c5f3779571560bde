"""SciPy's convention: what goes in, what comes out."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from scipy.optimize import OptimizeResult, rosen, rosen_der, rosen_hess, rosen_hess_prod

import quadric
from quadric.optim.minimize import METHODS
from quadric.problems import more_garbow_hillstrom as mgh

F64 = torch.float64
A, B = np.array([[3.0, 2.0], [2.0, 6.0]]), np.array([2.0, -8.0])
SECOND_ORDER = ["newton-cg", "newton-exact", "saddle-free", "trust-ncg", "trust-exact"]
each = pytest.mark.parametrize("method", METHODS)


def rosenbrock(x):
    """As SciPy's `rosen`, in torch."""
    return (100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2).sum()


def valley(x):
    """Residuals of a mildly curved valley, for every method."""
    return torch.cat([x.reshape(-1) - 1, 0.5 * (x.reshape(-1) ** 2 - 1)])


def least_squares(method):
    return METHODS[method].residuals


@pytest.mark.parametrize("method", SECOND_ORDER)
def test_the_quadratic_through_numpy_jac_and_hess(method):
    found = quadric.minimize(
        lambda x: 0.5 * x @ A @ x + B @ x + 10,
        np.array([1.0, 1.0]),
        method=method,
        jac=lambda x: A @ x + B,
        hess=lambda x: A,
    )
    assert isinstance(found, OptimizeResult)
    assert isinstance(found.x, np.ndarray)
    assert isinstance(found.jac, np.ndarray)
    assert isinstance(found.fun, float)
    assert found.success
    assert found.status == 0
    np.testing.assert_allclose(found.x, np.linalg.solve(A, -B), atol=1e-6)
    assert found.fun == pytest.approx(0, abs=1e-10)
    assert found.nhev >= 1


@pytest.mark.parametrize("method", SECOND_ORDER)
@pytest.mark.parametrize("given", ["hess", "hessp", "neither"])
def test_scipys_rosenbrock_with_scipys_derivatives(method, given):
    curvature = {"hess": {"hess": rosen_hess}, "hessp": {"hessp": rosen_hess_prod}, "neither": {}}[given]
    found = quadric.minimize(rosen, np.full(4, 1.3), method=method, jac=rosen_der, **curvature)
    assert found.success
    np.testing.assert_allclose(found.x, np.ones(4), atol=1e-4)
    exact = quadric.minimize(rosenbrock, torch.full((4,), 1.3, dtype=F64), method=method)
    assert found.nit == exact.nit
    assert found.nfev == exact.nfev or given == "neither"


@each
@pytest.mark.parametrize("shape", [(), (3,), (2, 2)])
def test_the_result_is_of_x0s_kind_and_shape(method, shape):
    x0 = torch.full(shape, 3.0, dtype=F64)
    kept = x0.clone()
    found = quadric.minimize(valley, x0, method=method)
    assert found.success, found.message
    assert isinstance(found.x, torch.Tensor)
    assert (found.x.shape, found.x.dtype, found.x.requires_grad) == (shape, F64, False)
    assert found.jac.shape == shape
    torch.testing.assert_close(found.x, torch.ones(shape, dtype=F64), rtol=0, atol=1e-4)
    assert torch.equal(x0, kept)
    assert set(found) >= {"x", "fun", "jac", "nit", "nfev", "njev", "nhev", "success", "status", "message"}
    assert found.residuals.shape == (2 * x0.numel(),)
    assert found.fun == pytest.approx(0.5 * float(found.residuals @ found.residuals), abs=1e-14)


@each
def test_numpy_x0_without_derivatives_gets_tensors_and_returns_arrays(method):
    kinds = set()

    def fun(x):
        kinds.add(type(x))
        return valley(x)

    found = quadric.minimize(fun, np.array([3.0, -2.0, 0.5]), method=method)
    assert kinds <= {torch.Tensor, torch.nn.Parameter}
    assert found.success, found.message
    assert isinstance(found.x, np.ndarray)
    assert found.x.dtype == np.float64
    if "hess_inv" in found and method != "l-bfgs":
        assert isinstance(found.hess_inv, np.ndarray)


@each
def test_float32_works_to_its_own_tolerance(method):
    found = quadric.minimize(valley, torch.tensor([3.0, -2.0]), method=method)
    assert found.success, found.message
    assert found.x.dtype == torch.float32
    assert found.jac.abs().max() <= 1e-3


@pytest.mark.parametrize("x0", [[3, 1], [3.0, 1.0], np.array([3, 1]), 2.0])
def test_lists_and_integers_become_float64_as_in_scipy(x0):
    found = quadric.minimize(lambda x: ((x - 1) ** 2).sum(), x0)
    assert found.success
    assert found.x.dtype == np.float64
    np.testing.assert_allclose(found.x, np.ones(np.size(x0)), atol=1e-5)


def test_jac_true_and_args():
    def fun(x, scale, shift):
        return scale * ((x - shift) ** 2).sum(), 2 * scale * (x - shift)

    for x0 in (np.zeros(3), torch.zeros(3, dtype=F64)):
        for method in ("bfgs", "newton-cg"):
            found = quadric.minimize(fun, x0, method=method, jac=True, args=(2.0, 5.0))
            assert found.success
            assert float(abs(found.x - 5).max()) < 1e-4
    single = quadric.minimize(lambda x, a: ((x - a) ** 2).sum(), torch.zeros(2, dtype=F64), args=3.0)
    assert float(single.x[0]) == pytest.approx(3, abs=1e-5)


def test_a_jac_for_tensors_is_used_and_hessian_products_still_come_by_autograd():
    calls = []

    def slope(x):
        calls.append(x)
        return torch.func.grad(rosenbrock)(x)

    x0 = torch.tensor([-1.2, 1.0], dtype=F64)
    found, by_autograd = (
        quadric.minimize(rosenbrock, x0, method="newton-cg", jac=slope),
        quadric.minimize(rosenbrock, x0, method="newton-cg"),
    )
    assert len(calls) == found.njev
    assert (found.nit, found.nfev, found.njev, found.nhev) == (
        by_autograd.nit, by_autograd.nfev, by_autograd.njev, by_autograd.nhev,
    )  # fmt: skip


def test_residuals_with_a_numpy_jacobian():
    found = quadric.minimize(
        lambda x: np.array([10 * (x[1] - x[0] ** 2), 1 - x[0]]),
        np.array([-1.2, 1.0]),
        method="levenberg-marquardt",
        jac=lambda x: np.array([[-20 * x[0], 10], [-1, 0]]),
    )
    assert found.success
    np.testing.assert_allclose(found.x, [1, 1], atol=1e-8)


def test_evaluations_are_counted():
    calls = []

    def fun(x):
        calls.append(1)
        return rosenbrock(x)

    for method in ("gradient-descent", "bfgs", "l-bfgs", "sr1", "momentum"):
        calls.clear()
        found = quadric.minimize(fun, torch.tensor([-1.2, 1.0], dtype=F64), method=method, options={"maxiter": 50})
        assert found.nfev == len(calls)
        assert found.nhev == 0
        assert found.njev <= found.nfev


def test_numpy_calls_are_counted():
    counts = dict.fromkeys(("fun", "jac", "hess"), 0)

    def counted(name, function):
        def call(x):
            counts[name] += 1
            return function(x)

        return call

    found = quadric.minimize(
        counted("fun", rosen), np.array([-1.2, 1.0]), method="newton-exact",
        jac=counted("jac", rosen_der), hess=counted("hess", rosen_hess),
    )  # fmt: skip
    assert (found.nfev, found.njev, found.nhev) == (counts["fun"], counts["jac"], counts["hess"])


def test_both_callbacks():
    seen = []
    x0 = torch.tensor([-1.2, 1.0], dtype=F64)
    found = quadric.minimize(rosenbrock, x0, callback=seen.append)
    assert len(seen) == found.nit
    torch.testing.assert_close(seen[-1], found.x)
    results = []

    def callback(intermediate_result):
        results.append(intermediate_result)

    quadric.minimize(rosenbrock, x0.numpy(), callback=callback)
    assert [float(r.fun) for r in results] == pytest.approx([float(rosenbrock(x)) for x in seen])
    assert all(isinstance(r.x, np.ndarray) for r in results)
    assert all(a.fun >= b.fun for a, b in pairwise(results))


@each
def test_stop_iteration_stops(method):
    def stop(x):
        raise StopIteration

    found = quadric.minimize(valley, torch.full((3,), 5.0, dtype=F64), method=method, callback=stop)
    assert (found.nit, found.status, found.success) == (1, 99, False)
    assert "StopIteration" in found.message


def test_tol_is_gtol_and_the_option_comes_first():
    x0 = torch.tensor([-1.2, 1.0], dtype=F64)
    loose, tight = (quadric.minimize(rosenbrock, x0, tol=tol) for tol in (1e-1, 1e-9))
    assert loose.nit < tight.nit
    assert tight.jac.abs().max() <= 1e-9
    assert quadric.minimize(rosenbrock, x0, tol=1e-9, options={"gtol": 1e-1}).nit == loose.nit


def test_disp_prints_the_outcome(capsys):
    quadric.minimize(rosenbrock, [-1.2, 1.0], options={"disp": True})
    assert "gradient is within tolerance" in capsys.readouterr().out
    quadric.minimize(rosenbrock, [-1.2, 1.0])
    assert capsys.readouterr().out == ""


def test_a_stationary_start_takes_no_iteration():
    for method in METHODS:
        found = quadric.minimize(valley, torch.ones(3, dtype=F64), method=method)
        assert (found.success, found.nit, found.nfev) == (True, 0, 1)


def test_out_of_iterations_is_said_with_the_best_point():
    found = quadric.minimize(rosenbrock, torch.tensor([-1.2, 1.0], dtype=F64), options={"maxiter": 3})
    assert (found.status, found.success, found.nit) == (1, False, 3)
    assert "Ran out of 3 iterations: max |g| = " in found.message
    assert found.fun == pytest.approx(float(rosenbrock(found.x)))
    none = quadric.minimize(rosenbrock, torch.tensor([-1.2, 1.0], dtype=F64), options={"maxiter": 0})
    assert (none.nit, none.fun) == (0, pytest.approx(24.2))


def test_the_inverse_hessian_comes_along():
    x0 = torch.tensor([-1.2, 1.0], dtype=F64)
    for method in ("bfgs", "dfp"):
        found = quadric.minimize(rosenbrock, x0, method=method, tol=1e-9)
        true = torch.linalg.inv(torch.func.hessian(rosenbrock)(found.x))
        torch.testing.assert_close(found.hess_inv, true, rtol=0.2, atol=0.05)
    limited = quadric.minimize(rosenbrock, x0, method="l-bfgs")
    assert isinstance(limited.hess_inv, quadric.LinearOperator)
    assert quadric.minimize(rosenbrock, x0.numpy(), method="l-bfgs").hess_inv.matvec(np.ones(2)).shape == (2,)
    for method in ("newton-exact", "trust-exact", "saddle-free"):
        found = quadric.minimize(rosenbrock, x0, method=method)
        torch.testing.assert_close(found.hess, torch.func.hessian(rosenbrock)(found.x))


def test_vectors_are_residuals_for_every_method():
    test = mgh.FUNCTIONS[0]
    for method in METHODS:
        if METHODS[method].patient:
            continue
        found = quadric.minimize(test.residuals, test.x0, method=method)
        assert found.success, (method, found.message)
        torch.testing.assert_close(found.x, torch.ones(2, dtype=F64), rtol=0, atol=1e-3)
