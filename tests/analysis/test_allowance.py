"""Time within blocks against time between them, by a clock that is set by hand."""

import pytest

from quadric.analysis.allowance import Allowance, share_of


class Clock:
    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


def test_time_is_added_up_within_and_between_blocks():
    clock = Clock()
    time = Allowance(0.1, clock)
    with time:
        clock.now += 2
        assert time.spent == 2
    clock.now += 30
    with time:
        clock.now += 1
        time.waited(0.5)
        assert time.spent == 2.5
    assert (time.spent, time.training, time.gaps) == (2.5, 30.5, 1)
    assert time.affords(0.5)
    assert not time.affords(0.6)
    assert time.affords(0.5, since=25.5)
    assert not time.affords(0.5, since=25.6)
    assert Allowance(None, clock).affords(1e9)


def test_time_counts_although_a_block_failed_and_across_processes():
    clock = Clock()
    time = Allowance(0.1, clock)
    time.resume(training=50.0, spent=4.0)

    def fail():
        with time:
            clock.now += 1
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert (time.spent, time.training) == (5.0, 50.0)


@pytest.mark.parametrize(("budget", "share"), [("2%", 0.02), ("0.5 %", 0.005), (0.02, 0.02), ("0.1", 0.1), (1, 1.0)])
def test_budgets(budget, share):
    assert share_of(budget) == pytest.approx(share)


@pytest.mark.parametrize("budget", [0, -0.1, "0%", 2, "200%", "much", float("nan"), True, [0.1]])
def test_budgets_out_of_range(budget):
    with pytest.raises(ValueError, match="Expected a budget above 0 and up to 1, a share of training time such as"):
        share_of(budget)
