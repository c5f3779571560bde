"""What minimize refuses, and that it says what to do."""

import math

import numpy as np
import pytest
import torch
from scipy.optimize import rosen, rosen_der, rosen_hess

import quadric
from quadric import minimize

F64 = torch.float64
X0 = torch.tensor([-1.2, 1.0], dtype=F64)


def bowl(x):
    return (x**2).sum()


@pytest.mark.parametrize(
    ("name", "near"), [("bfsg", "'bfgs'"), ("newton", "'newton-cg'"), ("lbfgs", "'l-bfgs'"), ("trust", "'trust-ncg'")]
)
def test_an_unknown_method_is_answered_with_the_nearest(name, near):
    with pytest.raises(
        ValueError, match=rf"Unknown method '{name}'\. Did you mean .*{near}.*\? Known: bfgs, curveball"
    ):
        minimize(bowl, X0, method=name)


def test_names_are_taken_in_any_case_as_scipys():
    assert minimize(bowl, X0, method="BFGS").success
    assert minimize(bowl, X0, method="Newton-CG").success


def test_an_unknown_option_is_answered_with_the_known_ones():
    with pytest.raises(
        ValueError,
        match=r"Unknown option of 'momentum' 'learningrate'\. Did you mean 'learning_rate'\? Known: disp, gtol",
    ):
        minimize(bowl, X0, method="momentum", options={"learningrate": 0.1})


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"maxiter": 2.5}, "Expected maxiter to be an integer ≥ 0, got 2.5"),
        ({"gtol": -1}, r"Expected a finite gtol \(or tol\) ≥ 0, got -1"),
        ({"c1": 0.95}, r"Expected 0 < c1 < c2 < 1, got c1 = 0\.95, c2 = 0\.9"),
    ],
)
def test_options_out_of_range(options, text):
    with pytest.raises(ValueError, match=text):
        minimize(bowl, X0, options=options)


@pytest.mark.parametrize(
    ("method", "options", "text"),
    [
        ("gradient-descent", {"learning_rate": -1.0}, r"Expected a finite learning_rate > 0, got -1\.0"),
        ("momentum", {"momentum": 1.0}, r"Expected 0 ≤ momentum < 1, got 1\.0"),
        ("trust-ncg", {"initial_trust_radius": 0.0}, "Expected 0 < initial_trust_radius ≤ max_trust_radius, got 0 and"),
        ("trust-ncg", {"eta": 0.3}, r"Expected 0 ≤ eta < 0\.25, got 0\.3"),
        ("l-bfgs", {"memory": 0}, "a number of pairs of at least 1, got 0"),
    ],
)
def test_a_methods_own_options_out_of_range(method, options, text):
    with pytest.raises(ValueError, match=text):
        minimize(bowl, X0, method=method, options=options)


@pytest.mark.parametrize(
    ("x0", "text"),
    [
        (torch.tensor([1, 2]), r"Expected a tensor x0 of float64 or float32, got torch\.int64: use x0\.double\(\)"),
        (torch.ones(2, dtype=torch.bfloat16), "Expected a tensor x0 of float64 or float32, got torch.bfloat16"),
        (np.array([1j, 2]), "Expected x0 of floating-point numbers .* got dtype complex128"),
        (["a"], "Expected x0 of floating-point numbers"),
        (None, "Expected x0 of floating-point numbers .* got dtype object"),
    ],
)
def test_an_x0_that_is_not_floating(x0, text):
    with pytest.raises(TypeError, match=text):
        minimize(bowl, x0)


@pytest.mark.parametrize(
    ("x0", "text"),
    [
        (torch.tensor([1.0, math.nan]), "Expected a finite x0, got one with 1 of 2 numbers NaN or infinite"),
        ([], "Expected an x0 with at least one number"),
    ],
)
def test_an_x0_with_nothing_to_start_from(x0, text):
    with pytest.raises(ValueError, match=text):
        minimize(bowl, x0)


def test_f_that_is_not_finite_at_x0():
    with pytest.raises(ValueError, match="f is nan at x0: start where it is finite"):
        minimize(lambda x: torch.log(x).sum(), X0)
    with pytest.raises(ValueError, match="f is 1 at x0, but its gradient is not finite there"):
        minimize(lambda x: x.sqrt().sum(), torch.tensor([0.0, 1.0], dtype=F64))


def test_derivatives_of_wrong_shape():
    with pytest.raises(ValueError, match=r"Expected jac to return shape \[2\], got \[3\]"):
        minimize(rosen, X0.numpy(), jac=lambda x: np.ones(3))
    with pytest.raises(ValueError, match=r"Expected hess to return shape \[2, 2\], got \[2\]"):
        minimize(rosen, X0.numpy(), method="newton-exact", jac=rosen_der, hess=rosen_der)
    with pytest.raises(ValueError, match=r"Expected hessp to return shape \[2\], got \[2, 2\]"):
        minimize(rosen, X0.numpy(), method="newton-cg", jac=rosen_der, hessp=lambda x, p: rosen_hess(x))
    with pytest.raises(ValueError, match=r"Expected jac to return shape \[3, 2\], got \[2, 3\]"):
        minimize(lambda x: np.ones(3), X0.numpy(), method="levenberg-marquardt", jac=lambda x: np.ones((2, 3)))
    with pytest.raises(TypeError, match=r"Expected jac to return numbers shaped \[2\], got str"):
        minimize(rosen, X0.numpy(), jac=lambda x: "gradient")


def test_a_hessian_that_is_not_symmetric():
    with pytest.raises(
        ValueError, match=r"Expected hess to return a symmetric matrix, got 2 at \[0, 1\] and 0 at \[1, 0\]"
    ):
        minimize(
            rosen, X0.numpy(), method="newton-cg", jac=rosen_der, hess=lambda x: np.array([[1.0, 2.0], [0.0, 1.0]])
        )


def test_a_hessian_that_is_not_finite():
    with pytest.raises(ValueError, match="The Hessian holds NaN or infinity"):
        minimize(rosen, X0.numpy(), method="newton-exact", jac=rosen_der, hess=lambda x: np.full((2, 2), np.inf))


def test_derivatives_that_are_not_functions():
    with pytest.raises(TypeError, match=r"Expected jac to be callable, True or None, got '2-point'\. Derivatives come"):
        minimize(bowl, X0, jac="2-point")
    with pytest.raises(TypeError, match="Expected hess to be callable, got 'cs'"):
        minimize(bowl, X0, hess="cs")
    with pytest.raises(TypeError, match="Expected fun to be callable, got 3"):
        minimize(3, X0)
    with pytest.raises(TypeError, match="Expected callback to be callable, got 3"):
        minimize(bowl, X0, callback=3)


@pytest.mark.parametrize("method", ["levenberg-marquardt", "curveball"])
def test_least_squares_methods_show_how_to_return_residuals(method):
    with pytest.raises(ValueError, match=rf"{method} is for least squares.*def fun\(x\): return model\(x\) - y"):
        minimize(bowl, X0, method=method)


def test_curveball_needs_torch():
    with pytest.raises(ValueError, match="curveball takes products with the Jacobian by autograd"):
        minimize(lambda x: x - 1, np.zeros(2), method="curveball", jac=lambda x: np.eye(2))


def test_one_residual_or_a_scalar_of_shape_one():
    with pytest.raises(ValueError, match=r"a vector of one number, which could be f or one residual r"):
        minimize(lambda x: (x**2).sum(0, keepdim=True), X0)
    assert minimize(lambda x: (x - 1).sum(0, keepdim=True), X0, method="levenberg-marquardt").success


def test_outputs_of_the_wrong_kind():
    with pytest.raises(ValueError, match=r"a scalar f or a vector of residuals r .*, got shape \[1, 2\]"):
        minimize(lambda x: x.unsqueeze(0), X0)
    with pytest.raises(
        TypeError, match="Expected fun to return a tensor, got float: without jac=, fun gets a torch tensor"
    ):
        minimize(lambda x: 1.0, X0)
    with pytest.raises(ValueError, match=r"fun's value carries no gradient: is there \.item\(\)"):
        minimize(lambda x: bowl(x).detach(), X0)
    with pytest.raises(TypeError, match="With jac=True, expected fun to return"):
        minimize(bowl, X0, jac=True)
    with pytest.raises(TypeError, match=r"real floating-point numbers, got torch\.complex128"):
        minimize(lambda x: torch.complex(x, x).sum(), X0)


def test_numpy_functions_without_jac_are_explained():
    with pytest.raises(TypeError, match="Without jac=, fun is differentiated by autograd and gets a torch tensor"):
        minimize(rosen, X0.numpy())


def test_an_error_of_the_users_own_passes_through():
    def broken(x):
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        minimize(broken, X0)


def test_minimize_is_at_the_top():
    assert quadric.minimize is minimize
