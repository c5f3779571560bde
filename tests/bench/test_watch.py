"""A watch counts steps from 1 and says how a run ended."""

import math

import pytest
import torch

from quadric.bench.watch import Watch

W = torch.tensor([1.0, 2.0])


def after(losses, **options):
    watch = Watch(options.pop("most_steps", 10), **options)
    went_on = [watch.see(loss, W) for loss in losses]
    return watch, went_on


def test_solved_at_the_first_loss_below_the_threshold():
    watch, went_on = after([3.0, 0.1, 0.09, 0.0], threshold=0.1)
    assert went_on == [True, True, False, False]
    assert (watch.solved, watch.steps, watch.status, watch.reason) == (True, 3, "solved", "solved in 3 steps")


@pytest.mark.parametrize("loss", [math.nan, math.inf, 101.0, -101.0])
def test_diverged_where_the_loss_leaves_its_bounds(loss):
    watch, went_on = after([1.0, loss], bounds=(-100.0, 100.0))
    assert went_on == [True, False]
    assert watch.status == "diverged"
    assert watch.reason.startswith("the loss of step 2 is")


def test_out_of_steps_and_what_is_kept():
    watch, went_on = after([3.0, 2.0], most_steps=2, keep=True)
    assert went_on == [True, False]
    assert (watch.solved, watch.status, watch.reason) == (False, "finished", "2 steps done")
    assert (watch.losses, watch.path) == ([3.0, 2.0], [[1.0, 2.0]] * 2)
