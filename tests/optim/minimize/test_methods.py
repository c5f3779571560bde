"""Each method against the mathematics it is named for."""

import math
import re

import numpy as np
import pytest
import torch

from operators.suite import F64, random, spd
from quadric import minimize
from quadric.optim.minimize import METHODS

NEWTON = ["newton-exact", "saddle-free", "trust-exact"]


def quadratic(n=6, seed=0):
    """½ xᵀAx + bᵀx with its A and b."""
    a, b = spd(n, seed=seed), random(n, seed=seed + 1)
    return (lambda x: 0.5 * x @ a @ x + b @ x), a, b


def path(fun, x0, **settings):
    """The iterates from x0."""
    seen = [x0.clone()]
    found = minimize(fun, x0, callback=lambda x: seen.append(x.clone()), **settings)
    return torch.stack(seen), found


def saddle(x):
    """x² − y² + ¼ y⁴: a saddle at 0, minima at (0, ±√2)."""
    return x[0] ** 2 - x[1] ** 2 + 0.25 * x[1] ** 4


# ---- on a quadratic


@pytest.mark.parametrize("method", NEWTON)
def test_newton_solves_a_quadratic_in_one_step(method):
    fun, a, b = quadratic()
    options = {"initial_trust_radius": 1e6} if method == "trust-exact" else None
    found = minimize(fun, torch.zeros(6, dtype=F64), method=method, options=options)
    assert (found.nit, found.nfev, found.nhev) == (1, 2, 2)
    torch.testing.assert_close(found.x, -torch.linalg.solve(a, b), rtol=1e-10, atol=1e-11)


def test_newton_cg_solves_a_small_quadratic_with_n_products_a_step():
    fun, a, b = quadratic()
    found = minimize(fun, torch.zeros(6, dtype=F64), method="newton-cg", tol=1e-10)
    torch.testing.assert_close(found.x, -torch.linalg.solve(a, b), rtol=1e-8, atol=1e-9)
    assert found.nhev <= 7 * found.nit


def test_levenberg_marquardt_solves_linear_least_squares_in_one_step():
    matrix, y = random(9, 4), random(9)
    found = minimize(
        lambda x: matrix @ x - y, torch.ones(4, dtype=F64), method="levenberg-marquardt", options={"factor": 1e6}
    )
    assert found.nit == 1
    torch.testing.assert_close(found.x, torch.linalg.lstsq(matrix, y).solution, rtol=1e-9, atol=1e-10)


def conjugate_gradients(a, b, x, steps):
    """The iterates of linear CG on A x = −b."""
    out, r = [x], -b - a @ x
    p = r
    for _ in range(steps):
        alpha = (r @ r) / (p @ a @ p)
        x = x + alpha * p
        new = r - alpha * (a @ p)
        p = new + (new @ new) / (r @ r) * p
        r = new
        out.append(x)
    return torch.stack(out)


@pytest.mark.parametrize("method", ["bfgs", "dfp", "l-bfgs"])
def test_with_exact_line_searches_secant_methods_are_conjugate_gradients(method):
    """Nocedal and Wright (2006), theorem 6.4; hence a quadratic of n variables takes n steps."""
    fun, a, b = quadratic()
    x0 = random(6, seed=9)
    iterates, found = path(fun, x0, method=method, options={"c1": 1e-12, "c2": 1e-10, "maxiter": 6, "gtol": 0.0})
    torch.testing.assert_close(iterates, conjugate_gradients(a, b, x0, found.nit), rtol=1e-5, atol=1e-6)
    assert found.nit == 6
    assert found.jac.abs().max() < 1e-6
    if method != "l-bfgs":
        torch.testing.assert_close(found.hess_inv, torch.linalg.inv(a), rtol=1e-4, atol=1e-5)


def test_sr1_finds_the_hessian_of_a_quadratic():
    """Nocedal and Wright (2006), theorem 6.1: whatever the steps, and an indefinite Hessian too."""
    fun, a, _ = quadratic()
    found = minimize(fun, random(6, seed=9), method="sr1", tol=1e-9)
    assert found.success
    torch.testing.assert_close(found.hess, a, rtol=1e-5, atol=1e-6)


def test_a_bfgs_step_is_the_textbooks():
    """Two steps with dense matrices, at the step lengths that were taken."""
    fun, a, b = quadratic(4)
    iterates, _ = path(fun, random(4, seed=9), method="bfgs", options={"maxiter": 3})
    slopes = iterates @ a + b
    s, y = iterates[1] - iterates[0], slopes[1] - slopes[0]
    eye, rho = torch.eye(4, dtype=F64), 1 / (s @ y)
    h = (s @ y) / (y @ y) * eye
    for k in (1, 2):
        s, y = iterates[k] - iterates[k - 1], slopes[k] - slopes[k - 1]
        rho = 1 / (s @ y)
        left = eye - rho * torch.outer(s, y)
        h = left @ h @ left.T + rho * torch.outer(s, s)
        direction, step = -h @ slopes[k], iterates[k + 1] - iterates[k]
        torch.testing.assert_close(step / step.norm(), direction / direction.norm(), rtol=1e-8, atol=1e-9)


def test_a_levenberg_marquardt_step_solves_the_damped_normal_equations():
    """(JᵀJ + λD²) p = −Jᵀr with ‖Dp‖ = Δ, at a start where Newton's step is too long."""

    def residuals(x):
        return torch.stack([10 * (x[1] - x[0] ** 2), 1 - x[0]])

    x0 = torch.tensor([-1.2, 1.0], dtype=F64)
    iterates, _ = path(residuals, x0, method="levenberg-marquardt", options={"maxiter": 1, "factor": 0.1})
    j, r = torch.func.jacrev(residuals)(x0), residuals(x0)
    scale = j.norm(dim=0)
    p = iterates[1] - x0
    assert float((scale * p).norm()) == pytest.approx(0.1 * float((scale * x0).norm()), rel=1e-8)
    left = -(j.T @ r) - j.T @ j @ p
    damping = left / (scale**2 * p)
    assert float(damping[0]) == pytest.approx(float(damping[1]), rel=1e-6)
    assert damping[0] > 0


def test_the_scale_of_levenberg_marquardt_never_shrinks():
    """Two steps on the boundary, the second with D the larger of both points' column norms."""

    def residuals(x):
        return torch.stack([x[0] ** 3, 5 * x[0] * x[1] + x[1], x[1] ** 2 - 3])

    x0 = torch.tensor([2.0, 1.5], dtype=F64)
    iterates, _ = path(residuals, x0, method="levenberg-marquardt", options={"maxiter": 2, "factor": 0.05})
    first, second = (torch.func.jacrev(residuals)(x).norm(dim=0) for x in iterates[:2])
    assert (second < first).any()
    radius = 0.05 * float((first * x0).norm())
    p = iterates[2] - iterates[1]
    length = float((torch.maximum(first, second) * p).norm())
    assert length == pytest.approx(radius, rel=1e-8) or length == pytest.approx(2 * radius, rel=1e-8)


def test_levenberg_marquardt_does_not_mind_the_units_of_x():
    units = torch.tensor([1e4, 1e-3], dtype=F64)

    def residuals(x):
        return torch.stack([10 * (x[1] - x[0] ** 2), 1 - x[0]])

    x0 = torch.tensor([-1.2, 1.0], dtype=F64)
    options = {"gtol": 0.0, "maxiter": 8}
    plain, _ = path(residuals, x0, method="levenberg-marquardt", options=options)
    scaled, _ = path(lambda x: residuals(x / units), x0 * units, method="levenberg-marquardt", options=options)
    torch.testing.assert_close(scaled / units, plain, rtol=1e-7, atol=1e-9)


# ---- saddles


@pytest.mark.parametrize("start", [[1.0, 0.0], [0.0, 0.0], [1.0, 1e-8]])
@pytest.mark.parametrize("method", ["saddle-free", "trust-exact"])
def test_a_saddle_is_left(method, start):
    found = minimize(saddle, torch.tensor(start, dtype=F64), method=method)
    assert found.success
    assert abs(float(found.x[1])) == pytest.approx(math.sqrt(2), abs=1e-5)


def test_newton_says_that_it_stopped_at_a_saddle():
    found = minimize(saddle, torch.tensor([1.0, 0.0], dtype=F64), method="newton-exact")
    assert (found.success, found.status) == (False, 4)
    assert "Stopped at a saddle point" in found.message
    assert "the Hessian has the eigenvalue -2" in found.message


@pytest.mark.parametrize("dense", [True, False])
def test_a_saddle_free_step_has_the_magnitudes_of_the_eigenvalues(dense):
    x0 = torch.tensor([0.7, 0.2, -0.4], dtype=F64)
    a = torch.diag(torch.tensor([3.0, -2.0, 0.5], dtype=F64)) + 0.1
    iterates, _ = path(
        lambda x: 0.5 * x @ a @ x + 0.25 * (x**4).sum(),
        x0,
        method="saddle-free",
        options={"maxiter": 1, "dense": dense},
    )
    h, g = a + torch.diag(3 * x0**2), a @ x0 + x0**3
    values, vectors = torch.linalg.eigh(h)
    direction = -(vectors @ ((vectors.T @ g) / values.abs()))
    step = iterates[1] - x0
    torch.testing.assert_close(step / step.norm(), direction / direction.norm(), rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize("method", ["newton-cg", "newton-exact", "trust-ncg", "trust-exact", "sr1", "bfgs"])
def test_from_a_region_of_negative_curvature_all_descend_to_a_minimum(method):
    found = minimize(saddle, torch.tensor([0.5, 0.1], dtype=F64), method=method)
    assert found.success
    assert float(found.fun) == pytest.approx(-1, abs=1e-8)


# ---- steps of a fixed length


def stretched(x):
    """Curvatures 1 and 10."""
    return 0.5 * x[0] ** 2 + 5 * x[1] ** 2 + 10


def test_gradient_descent_takes_the_steps_it_is_told():
    x0 = torch.tensor([1.0, 1.0], dtype=F64)
    iterates, _ = path(stretched, x0, method="gradient-descent", options={"learning_rate": 0.15, "maxiter": 5})
    factors = 1 - 0.15 * torch.tensor([1.0, 10.0], dtype=F64)
    torch.testing.assert_close(iterates, torch.stack([factors**k for k in range(6)]))


def test_momentum_takes_the_steps_it_is_told():
    x0 = torch.tensor([1.0, 1.0], dtype=F64)
    options = {"learning_rate": 0.05, "momentum": 0.8, "maxiter": 6}
    iterates, _ = path(stretched, x0, method="momentum", options=options)
    x = x0.clone().requires_grad_()
    optimizer = torch.optim.SGD([x], lr=0.05, momentum=0.8)
    for k in range(1, 7):
        optimizer.zero_grad()
        stretched(x).backward()
        optimizer.step()
        torch.testing.assert_close(iterates[k], x.detach())


@pytest.mark.parametrize(("method", "stable"), [("gradient-descent", 0.2), ("momentum", 0.38)])
def test_a_step_too_large_is_called_divergence_with_what_would_do(method, stable):
    x0 = torch.tensor([1.0, 1.0], dtype=F64)
    for rate in (1.1 * stable, 10 * stable, 1e200):
        found = minimize(stretched, x0, method=method, options={"learning_rate": rate})
        assert (found.success, found.status) == (False, 3)
        assert "diverged: f rose from 15.5 to" in found.message
        assert "too large" in found.message
        assert "nan" not in found.message
        assert math.isfinite(found.fun)
        assert found.fun <= 15.5
        assert torch.isfinite(found.x).all()
        bound = re.search(r"below ([\d.]+) would be stable", found.message)
        assert rate == 1e200 or float(bound.group(1)) == pytest.approx(stable, rel=0.02)


def test_a_step_slightly_too_large_is_said_at_the_end():
    found = minimize(
        stretched, torch.tensor([1.0, 1.0], dtype=F64), method="gradient-descent",
        options={"learning_rate": 0.2001, "maxiter": 200},
    )  # fmt: skip
    assert found.status == 1
    assert "f rose from 15.5 to" in found.message
    assert found.fun < 15.1


def test_a_step_too_small_runs_out_and_says_what_it_would_take():
    x0, options = torch.tensor([1.0, 1.0], dtype=F64), {"learning_rate": 1e-3, "maxiter": 2000}
    found = minimize(stretched, x0, method="gradient-descent", options=options)
    assert (found.success, found.status) == (False, 1)
    more = int(re.search(r"([\d,]+) more for each digit", found.message).group(1).replace(",", ""))
    assert more == pytest.approx(math.log(10) / 1e-3, rel=0.01)
    stable = re.search(r"where steps of up to ([\d.]+) would be stable: learning_rate = 0.001 is small", found.message)
    assert float(stable.group(1)) == pytest.approx(0.2, rel=0.02)


@pytest.mark.parametrize("method", METHODS)
def test_a_function_without_a_minimum_ends_with_a_reason(method):
    def fun(x):
        return torch.exp(-x) if METHODS[method].residuals else -(x**3).sum() - x.sum()

    found = minimize(fun, torch.ones(2, dtype=F64), method=method, options={"maxiter": 300})
    assert found.message
    assert not np.isnan(found.fun)
    assert torch.isfinite(found.x).all()
    assert found.success == METHODS[method].residuals
    if not found.success:
        assert (found.status, found.fun < -1e10) == (3, True)
        assert "unbounded below" in found.message


def test_functions_that_are_nan_beyond_a_wall_are_minimised_before_it():
    def wall(x):
        return (x - torch.log(2 - x)).sum() + (x**2).sum()

    for method in METHODS:
        if not METHODS[method].residuals:
            found = minimize(wall, torch.tensor([-30.0, 1.9], dtype=F64), method=method)
            assert found.success, (method, found.message)
            slope = 1 + 1 / (2 - found.x) + 2 * found.x
            assert slope.abs().max() < 1e-4


def test_large_problems_go_by_products():
    """n = 2,500: neither the Hessian nor J is kept."""
    scales = torch.linspace(1, 30, 2500, dtype=F64)

    def residuals(x):
        return torch.cat([scales * x - 1, 0.1 * x**2])

    def fun(x):
        return residuals(x).square().sum()

    x0 = torch.ones(2500, dtype=F64)
    for method in ("saddle-free", "newton-cg", "trust-ncg", "l-bfgs"):
        found = minimize(fun, x0, method=method)
        assert found.success, (method, found.message)
    assert minimize(residuals, x0, method="levenberg-marquardt").success
