"""quadric.minimize: SciPy's convention, derivatives by autograd, and reasons where it fails.

Rosenbrock's valley by every method, a quadratic through NumPy callables, curve fitting by least squares, the learning
rates of gradient descent that are too large and too small, and a saddle point.
"""

import numpy as np
import torch

import quadric

X0 = torch.tensor([-1.2, 1.0], dtype=torch.float64)


def valley(x):
    """Rosenbrock's function as residuals r: f = ½‖r‖²."""
    return torch.stack([10 * (x[1] - x[0] ** 2), 1 - x[0]])


def saddle(x):
    """x² − y² + ¼ y⁴: a saddle at 0, minima at (0, ±√2)."""
    return x[0] ** 2 - x[1] ** 2 + 0.25 * x[1] ** 4


def all_methods():
    """Evaluations that each method needs in Rosenbrock's valley."""
    print("Rosenbrock's valley            success  iterations  f  gradients  Hessians or products")
    for method in (
        "gradient-descent", "momentum", "bfgs", "dfp", "sr1", "l-bfgs", "newton-cg", "newton-exact", "saddle-free",
        "trust-ncg", "trust-exact", "levenberg-marquardt", "curveball",
    ):  # fmt: skip
        r = quadric.minimize(valley, X0, method=method, options={"maxiter": 5000})
        print(f"  {method:27s} {r.success!s:>8} {r.nit:>11} {r.nfev:>4} {r.njev:>9} {r.nhev:>9}   x = {r.x.tolist()}")


def numpy_callables():
    """½ xᵀAx + bᵀx + 10 as one would hand it to SciPy."""
    a, b = np.array([[3.0, 2.0], [2.0, 6.0]]), np.array([2.0, -8.0])
    r = quadric.minimize(
        lambda x: 0.5 * x @ a @ x + b @ x + 10,
        np.zeros(2),
        method="newton-cg",
        jac=lambda x: a @ x + b,
        hess=lambda x: a,
    )
    print(f"\nNumPy's quadratic: x = {r.x}, f = {r.fun:.3g}, {r.nit} iterations. {r.message}")


def curve_fitting():
    """An exponential decay fitted to noisy points."""
    t = torch.linspace(0, 4, 40, dtype=torch.float64)
    noise = torch.randn(40, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    y = 2.5 * torch.exp(-1.3 * t) + 0.5 + 0.02 * noise
    start = torch.ones(3, dtype=torch.float64)
    r = quadric.minimize(lambda p: p[0] * torch.exp(-p[1] * t) + p[2] - y, start, method="levenberg-marquardt")
    fitted = ", ".join(f"{value:.3f}" for value in r.x.tolist())
    print(f"\nFitted (2.5, 1.3, 0.5): ({fitted}) in {r.nfev} evaluations.")


def learning_rates():
    """Too large, too small, and found by itself."""

    def bowl(x):
        return 0.5 * x[0] ** 2 + 5 * x[1] ** 2

    print("\nGradient descent where the curvatures are 1 and 10:")
    for rate in (0.25, 1e-3, None):
        options = {"learning_rate": rate, "maxiter": 1000}
        r = quadric.minimize(bowl, torch.ones(2, dtype=torch.float64), method="gradient-descent", options=options)
        print(f"  learning_rate = {rate}: {r.message}")


def saddle_point():
    """Newton's method is drawn to a saddle; saddle-free Newton leaves it."""
    print("\nFrom (1, 0), with a saddle at the origin:")
    for method in ("newton-exact", "saddle-free"):
        r = quadric.minimize(saddle, torch.tensor([1.0, 0.0], dtype=torch.float64), method=method)
        print(f"  {method}: f = {r.fun:.3g}. {r.message}")


def main():
    """Run them all."""
    all_methods()
    numpy_callables()
    curve_fitting()
    learning_rates()
    saddle_point()


if __name__ == "__main__":
    main()
