"""The grid of widths and depths."""

import pytest
import torch
from torch import nn

from quadric import problems
from quadric.bench.rates import target
from quadric.problems.width_depth import DEPTHS, GRID, WIDTHS


def test_every_width_has_every_depth():
    assert {problem.name for problem in GRID} == {f"width-depth-{w}x{d}" for w in WIDTHS for d in DEPTHS}


@pytest.mark.parametrize(("width", "depth"), [(16, 12), (256, 2)])
def test_a_network_has_the_width_and_the_hidden_layers_of_its_name(width, depth):
    model = problems.get(f"width-depth-{width}x{depth}").open(None, torch.device("cpu"))(0).model
    layers = [layer for layer in model if isinstance(layer, nn.Linear)]
    assert [layer.out_features for layer in layers] == [width] * depth + [10]
    assert sum(isinstance(layer, nn.Tanh) for layer in model) == depth


@pytest.mark.parametrize("problem", GRID, ids=[problem.name for problem in GRID])
def test_the_target_is_what_tuned_first_order_methods_reach(problem):
    assert "re-runs of the best tuned first-order method" in target(problem).origin
