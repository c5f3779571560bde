"""What the damping rules read off the model in the step's subspace."""

import numpy as np
import pytest

from quadric.optim.damping import largest_eigenvalue


@pytest.mark.parametrize("closeness", [1.0, 0.1, 0.01])
def test_the_largest_curvature_in_the_span_of_two_directions(closeness):
    """Against the dense generalised eigenvalue problem, for directions at any angle, also nearly parallel."""
    rng = np.random.default_rng(0)
    for _ in range(50):
        a = rng.normal(size=(5, 5))
        v = rng.normal(size=(5, 2))
        v[:, 1] = v[:, 0] + closeness * v[:, 1]
        v *= 10 ** rng.uniform(-1, 1, size=2)
        curvature, metric = v.T @ a @ a.T @ v, v.T @ v
        basis = np.linalg.qr(v)[0]
        want = np.linalg.eigvalsh(basis.T @ a @ a.T @ basis).max()
        assert largest_eigenvalue(curvature, metric) == pytest.approx(want, rel=1e-12 / closeness**2)


def test_directions_that_coincide_count_once():
    ones = np.ones((2, 2))
    assert largest_eigenvalue(3 * ones, ones) == pytest.approx(3)
    assert largest_eigenvalue(np.zeros((2, 2)), np.diag([1.0, 0.0])) == 0
