"""Medians over seeds, their spread, and misses that stay misses."""

from dataclasses import replace
from itertools import pairwise
from math import inf

from bench.small import header, run
from quadric.bench.records import gathered
from quadric.report.summary import Spread, curve, settings, spread, summarise


def record(*runs, seeds):
    names = list(dict.fromkeys(events[0].optimizer for events in runs))
    events = [event for run in runs for event in run]
    return gathered(header(names, seeds), events)


def test_a_spread_is_the_median_and_the_extremes_of_what_was_measured():
    assert spread([3.0, None, 1.0, 10.0]) == Spread(3.0, 1.0, 10.0)
    assert spread([None]) is None


def test_final_values_are_those_of_the_last_evaluation():
    (s,) = summarise(record(run("a", 0, [9, 1]), run("a", 1, [9, 2]), run("a", 2, [9, 6]), seeds=(0, 1, 2)))
    assert s.train_loss == Spread(2, 1, 6)
    assert s.test_error == Spread(0.4, 0.2, 1.2)
    assert s.steps == Spread(10, 10, 10)
    assert (s.runs, s.diverged, s.unfinished) == (3, 0, 0)


def test_a_miss_counts_as_infinite_in_the_median_to_the_target():
    (most,) = summarise(record(run("a", 0, [1], 30), run("a", 1, [1], 40), run("a", 2, [1]), seeds=(0, 1, 2)))
    assert most.steps_to_target == Spread(40, 30, inf)
    (few,) = summarise(record(run("a", 0, [1], 30), run("a", 1, [1]), seeds=(0, 1)))
    assert few.steps_to_target == Spread(inf, 30, inf)
    assert few.reached == 1


def test_a_run_that_was_interrupted_before_the_target_is_not_a_miss():
    (s,) = summarise(record(run("a", 0, [1], 30), run("a", 1, [1], status=None), seeds=(0, 1)))
    assert s.steps_to_target == Spread(30, 30, 30)
    assert s.unfinished == 1


def test_diverged_runs_are_counted_and_left_out_of_final_values():
    (s,) = summarise(record(run("a", 0, [9, 1]), run("a", 1, [9, 500], status="diverged"), seeds=(0, 1)))
    assert s.train_loss == Spread(1, 1, 1)
    assert s.diverged == 1


def test_an_optimiser_that_never_began_has_no_summary():
    assert [s.optimizer for s in summarise(record(run("a", 0, [1]), seeds=(0, 1)))] == ["a"]


def test_a_curve_has_the_median_at_each_step_placed_at_the_median_seconds():
    runs = record(run("a", 0, [9, 1]), run("a", 1, [9, 5, 3]), seeds=(0, 1)).runs
    points = curve(runs, lambda evaluation: evaluation.train_loss)
    assert [(point.step, point.seconds, point.value) for point in points] == [
        (0, 0.0, Spread(9, 9, 9)),
        (10, 0.5, Spread(3, 1, 5)),
        (20, 1.0, Spread(3, 3, 3)),
    ]


def test_a_curve_of_runs_in_seconds_has_no_lone_ends_and_does_not_go_back_in_time():
    slow = run("a", 0, [9, 5, 3])
    fast = [replace(e, seconds=e.seconds / 4) for e in run("a", 1, [9, 6, 4, 2, 1, 0.5, 0.2, 0.1])]
    lone = replace(slow[2], step=25, seconds=1.1)
    runs = record([*slow[:3], lone, *slow[3:]], fast, seeds=(0, 1)).runs
    points = curve(runs, lambda evaluation: evaluation.train_loss)
    assert [point.step for point in points] == [0, 10, 20, 50, 60, 70]
    assert all(one.seconds <= two.seconds for one, two in pairwise(points))


def test_settings_in_words():
    assert settings({"lr": 0.1, "momentum": 0.9}) == "lr 0.1, momentum 0.9"
    assert settings({}) == "none set"
