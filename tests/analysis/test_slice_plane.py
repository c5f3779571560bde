"""Planes through the weights: the loss there, the quadratic model beside it, and steps along eigenvectors."""

import math

import pytest
import torch
from torch import nn

import quadric
from quadric.analysis.slice_plane import SlicePlane, eigenvector_steps, slice_plane

MATRIX = torch.tensor([[3.0, 1.0, 0.0], [1.0, 2.0, 0.0], [0.0, 0.0, -1.0]], dtype=torch.float64)


@pytest.fixture
def quadratic():
    x = torch.tensor([0.5, -1.0, 2.0], dtype=torch.float64)
    return quadric.Hessian(quadric.Objective.of(lambda x: 4 + x.sum() + 0.5 * x @ MATRIX @ x, x))


def test_a_quadratic_is_its_own_model(quadratic):
    directions = torch.tensor([[1.0, 0.0], [2.0, 0.0], [0.0, 3.0]], dtype=torch.float64)
    plane = slice_plane(quadratic, directions, radius=2.0, points=5)
    for i, length in enumerate((math.sqrt(5), 3.0)):
        across, losses, model = plane.line(i)
        torch.testing.assert_close(across, torch.linspace(-2, 2, 5, dtype=torch.float64) * length)
        torch.testing.assert_close(losses, model)
    torch.testing.assert_close(plane.curvatures, (directions * (MATRIX @ directions)).sum(0))


def test_one_direction_gives_a_line_and_results_save(quadratic, tmp_path):
    plane = slice_plane(quadratic, torch.ones(3, dtype=torch.float64), points=3)
    assert plane.slice.losses.shape == (3,)
    again = SlicePlane.load(plane.save(tmp_path / "plane.npz"))
    torch.testing.assert_close(again.line(0), plane.line(0))


def test_the_middle_is_where_the_weights_are_and_they_stay():
    torch.manual_seed(0)
    model = nn.Linear(4, 2)
    objective = quadric.Objective(model, nn.CrossEntropyLoss())
    batch = torch.randn(8, 4), torch.randint(0, 2, (8,))
    before = [p.detach().clone() for p in model.parameters()]
    plane = slice_plane(quadric.GGN(objective, batch), quadric.filter_normalized(objective, 2), points=3)
    assert float(plane.slice.losses[1, 1]) == pytest.approx(objective.evaluate(batch))
    assert all(torch.equal(p, q) for p, q in zip(model.parameters(), before, strict=True))


def test_an_even_number_of_points_is_refused(quadratic):
    with pytest.raises(ValueError, match="Expected an odd number of points, so that the middle one is w itself, got 4"):
        slice_plane(quadratic, torch.ones(3, dtype=torch.float64), points=4)


def test_steps_along_eigenvectors_double_the_loss_by_curvature_alone(quadratic):
    values = torch.tensor([8.0, 0.0, -1e-9], dtype=torch.float64)
    steps = eigenvector_steps(quadratic, values, torch.eye(3, dtype=torch.float64))
    loss, longest = float(quadratic.objective.evaluate(None)), math.sqrt(0.25 + 1 + 4)
    assert steps.diagonal().tolist() == pytest.approx([math.sqrt(2 * loss / 8), longest, longest])
