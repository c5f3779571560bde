"""Sharpness against dense eigenvalues and gradient descent itself; slices against the loss."""

import math

import pytest
import torch
from torch import nn

import quadric
from quadric import Objective, filter_normalized, loss_slice, sharpness
from quadric.analysis import LossSlice, Sharpness

F64 = torch.float64
CURVATURES = torch.tensor([4.0, 1.0, -0.5], dtype=F64)


def quadratic():
    return Objective.of(lambda x: 0.5 * (CURVATURES * x * x).sum(), torch.tensor([1.0, 1.0, 0.0], dtype=F64))


def test_sharpness_of_a_quadratic():
    got = sharpness(quadric.Hessian(quadratic()), lr=0.25)
    assert got.largest == pytest.approx(4.0)
    assert got.trace.estimate == pytest.approx(4.5)
    assert (got.threshold, got.ratio) == (8.0, pytest.approx(0.5))
    assert sharpness(quadric.Hessian(quadratic())).ratio is None


def test_the_trace_is_taken_to_a_tolerance():
    weights = torch.linspace(0.5, 1.5, 400, dtype=F64)
    hessian = quadric.Hessian(Objective.of(lambda x: (weights * x).cos().sum(), torch.zeros(400, dtype=F64)))
    got = sharpness(hessian, trace_tol=0.05)
    assert got.trace.converged
    assert got.trace.standard_error <= 0.05 * abs(got.trace.estimate)
    assert sharpness(hessian, products=6).trace.products == 6


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_the_threshold_is_where_descent_turns_unstable(momentum):
    for factor, stable in ((0.99, True), (1.01, False)):
        threshold = sharpness(quadric.Hessian(quadratic()), lr=0.1, momentum=momentum).threshold
        x, z = 1.0, 0.0
        for _ in range(3000):
            z = momentum * z - 0.1 * (factor * threshold * x)
            x = x + z
            if abs(x) > 1e6:
                break
        assert (abs(x) < 1) == stable


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.Flatten(), nn.Linear(48, 4))


DATA = (torch.randn(12, 1, 6, 6, generator=torch.Generator().manual_seed(2)), torch.arange(12) % 4)


def test_filters_of_a_random_direction_are_as_long_as_the_networks():
    objective = Objective(network(), nn.CrossEntropyLoss())
    u = filter_normalized(objective, 2, seed=3)
    assert u.shape == (objective.space.numel, 2)
    for column in u.unbind(1):
        for p, d in zip(objective.parameters, objective.space.unflatten(column), strict=True):
            want = p.detach().flatten(1).norm(dim=1) if p.dim() > 1 else torch.zeros(())
            have = d.flatten(1).norm(dim=1) if p.dim() > 1 else d.norm()
            assert torch.allclose(have, want, rtol=1e-5)
    assert torch.equal(u, filter_normalized(objective, 2, seed=3))
    assert not torch.equal(u[:, 0], u[:, 1])


def test_slices_are_the_loss_and_leave_no_trace():
    model = network()
    objective = Objective(model, nn.CrossEntropyLoss())
    before = {k: v.clone() for k, v in model.state_dict().items()}
    u = filter_normalized(objective, 2)
    got = loss_slice(objective, DATA, u, radius=0.5, points=5)
    assert all(torch.equal(before[k], v) for k, v in model.state_dict().items())
    assert got.losses.shape == (5, 5)
    assert got.losses[2, 2] == pytest.approx(objective.evaluate(DATA))
    line = loss_slice(objective, DATA, u[:, 1], radius=0.5, points=5)
    assert torch.allclose(line.losses, got.losses[2], rtol=1e-6)
    torch.nn.utils.vector_to_parameters(
        torch.nn.utils.parameters_to_vector(model.parameters()) - 0.25 * u[:, 0], model.parameters()
    )
    assert objective.evaluate(DATA) == pytest.approx(float(got.losses[1, 2]), rel=1e-6)


def test_along_an_eigenvector_the_slice_bends_as_the_eigenvalue_says():
    objective = quadratic()
    top = quadric.eigsh(quadric.Hessian(objective), 1)
    got = loss_slice(objective, None, top.eigenvectors, radius=1e-2, points=3)
    bend = float(got.losses[0] - 2 * got.losses[1] + got.losses[2]) / 1e-4
    assert bend == pytest.approx(4.0, rel=1e-6)


def test_parameters_come_back_after_an_error():
    objective = quadratic()
    before = objective.parameters[0].detach().clone()

    def stop(line):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        loss_slice(objective, None, torch.ones(3, dtype=F64), progress=stop)
    assert torch.equal(objective.parameters[0].detach(), before)


def test_results_come_back_from_files(tmp_path):
    got = sharpness(quadric.Hessian(quadratic()), lr=0.1)
    assert Sharpness.load(got.save(tmp_path / "sharpness.npz")) == got
    line = loss_slice(quadratic(), None, torch.ones(3, dtype=F64))
    assert torch.equal(LossSlice.load(line.save(tmp_path / "slice.npz")).losses, line.losses)


REFUSED = [
    (lambda o: sharpness(quadric.Hessian(o), lr=0.0), r"Expected a learning rate > 0, got 0\.0"),
    (lambda o: sharpness(quadric.Hessian(o), lr=1.0, momentum=1.0), "Expected a momentum from 0 to below 1"),
    (lambda o: loss_slice(o, None, torch.ones(3, 3, dtype=F64)), "Expected one or two directions"),
    (lambda o: loss_slice(o, None, torch.ones(2, dtype=F64)), r"Expected a tensor \[n\] or \[n, k\] with n = 3"),
    (lambda o: loss_slice(o, None, torch.ones(3, dtype=F64), radius=math.inf), "Expected a finite radius > 0"),
    (lambda o: loss_slice(o, None, torch.ones(3, dtype=F64), points=1), "at least 2 points, got 1.0 and 1"),
    (lambda o: filter_normalized(o, 0), "Expected a count of at least 1, got 0"),
]


@pytest.mark.parametrize(("call", "message"), REFUSED)
def test_refusals(call, message):
    with pytest.raises(ValueError, match=message):
        call(quadratic())
