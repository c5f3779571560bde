"""The whole protocol on planted methods and a clock that moves by hand: from the training loop to the verdict."""

import pytest
import torch

from bench.small import CPU, digits, header
from quadric import optim
from quadric.bench import runner
from quadric.bench.records import gathered
from quadric.bench.runner import Entry, Stopwatch, run
from quadric.report.verdict import verdict


@pytest.fixture
def judged(monkeypatch):
    """The verdict on methods that are gradient descent with a learning rate and a time for each step."""

    def call(**planted):
        now = [0.0]

        class Planted(torch.optim.SGD):
            def __init__(self, objective, lr, duration):
                super().__init__(objective.parameters, lr=lr)
                self.duration = duration

            def step(self, closure):
                now[0] += self.duration
                return super().step(closure)

        monkeypatch.setattr(runner, "Stopwatch", lambda device: Stopwatch(device, lambda: now[0]))
        monkeypatch.setattr(optim, "create", lambda name, objective: Planted(objective, *planted[name]))
        problem, draw = digits(evaluate_every=1)
        seeds = [0, 1, 2]
        entries = [Entry(name) for name in planted]
        events = run(problem, entries, draw, epochs=20, seeds=seeds, device=CPU)
        return verdict(gathered(header(tuple(planted), seeds), list(events)))

    return call


def test_twice_as_fast_a_step_wins_in_seconds_by_two_and_in_steps_nobody_does(judged):
    text = judged(quick=(1.0, 1.0), slow=(1.0, 2.0))
    assert "In steps there is no winner: quick led with a median of" in text
    assert "3 seeds do not tell it apart from slow (p = 1)." in text
    assert "In seconds quick won with a median of" in text
    assert ", 2× ahead of slow, the next (p = 0.1, 3 seeds)." in text
    assert "slow in steps: undecided against quick (p = 1). slow in seconds: lost against quick (2×)." in text


def test_equal_methods_have_no_winner_in_anything(judged):
    text = judged(one=(1.0, 1.0), other=(1.0, 1.0))
    assert text.count("there is no winner") == 2
    assert " won with" not in text


def test_fewer_steps_that_take_longer_win_in_steps_and_lose_in_seconds(judged):
    text = judged(frugal=(1.0, 9.0), cheap=(0.4, 1.0))
    assert "In steps frugal won" in text
    assert "In seconds cheap won" in text
    assert "frugal in steps: won against cheap" in text
    assert "frugal in seconds: lost against cheap" in text
