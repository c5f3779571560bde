"""Verdicts: who is twice as fast is named with the factor, who is equal is not told apart, and misses stay misses."""

import random
from itertools import combinations
from math import inf

import pytest
from scipy.stats import mannwhitneyu

from bench.small import header, run
from quadric.bench.records import gathered
from quadric.report.verdict import RULE, duel, rank_sum, verdict


def planted(**reached):
    """A record of methods with these steps to the target, one for each seed; None is a miss."""
    seeds = range(max(map(len, reached.values())))
    events = [
        event
        for name, steps in reached.items()
        for seed, step in enumerate(steps)
        for event in run(name, seed, [2, 1], step)
    ]
    return gathered(header(tuple(reached), seeds), events)


def test_a_method_that_is_twice_as_fast_wins_by_that_factor_in_steps_and_in_seconds():
    text = verdict(planted(fast=[50, 52, 48], slow=[100, 104, 96]))
    assert "In steps fast won with a median of 50 steps, 2× ahead of slow, the next (p = 0.1, 3 seeds)." in text
    assert "In seconds fast won with a median of 2.5 s, 2× ahead of slow, the next (p = 0.1, 3 seeds)." in text
    assert "fast in steps: won against slow (2×)." in text
    assert "slow in steps: lost against fast (2×)." in text
    assert text.endswith(RULE)


@pytest.mark.parametrize("seeds", [3, 5, 10])
def test_methods_that_are_equal_are_not_told_apart(seeds):
    steps = [90 + 4 * i for i in range(seeds)]
    text = verdict(planted(one=steps, other=[step + 1 for step in reversed(steps)]))
    assert "In steps there is no winner: one led with a median of" in text
    assert f"but {seeds} seeds do not tell it apart from other (p = " in text
    assert "In seconds there is no winner" in text
    assert " won with" not in text
    assert "one in steps: undecided against other" in text


def test_equal_methods_are_told_apart_one_time_in_ten_at_most():
    draw = random.Random(0).gauss
    named = sum(
        " won with" in verdict(planted(**{n: [100 + 10 * draw(0, 1) for _ in range(5)] for n in "ab"}))
        for _ in range(300)
    )
    assert named <= 0.1 * 300 + 12


def test_three_seeds_that_overlap_have_no_winner_whatever_the_medians():
    assert "no winner: fast led" in verdict(planted(fast=[10, 11, 31], slow=[30, 100, 100]))


def test_two_seeds_are_too_few():
    assert "do not tell it apart from slow (too few seeds)" in verdict(planted(fast=[10, 10], slow=[100, 100]))


def test_seconds_may_have_another_winner_than_steps():
    record = planted(frugal=[10, 11, 12], quick=[20, 21, 22])
    for each in record.runs_of("frugal"):
        object.__setattr__(each.reached, "seconds", 9.0)
    text = verdict(record)
    assert "In steps frugal won" in text
    assert "In seconds quick won" in text
    assert "frugal in seconds: lost against quick (8.6×)." in text


def test_whoever_misses_the_target_is_last_and_has_no_factor():
    text = verdict(planted(hits=[10, 11, 12], misses=[None] * 3, most=[20, None, 21]))
    assert "In steps hits won with a median of 11 steps, 1.9× ahead of most, the next" in text
    assert "hits in steps: won against misses (which missed) and most (1.9×)." in text
    assert "misses in steps: lost against hits (by missing); undecided against most (p = 0.4)." in text
    nobody = verdict(planted(a=[None] * 3, b=[None, None, 5]))
    assert "In steps nobody won: no method reached the target with most of its seeds." in nobody


def test_a_sole_method_that_reaches_the_target_wins_without_a_factor():
    assert "; no other reached the target with most of its 3 seeds (p = 0.1)" in verdict(
        planted(hits=[10, 11, 12], misses=[None] * 3)
    )


def test_interrupted_runs_are_left_out_and_one_method_has_no_verdict():
    assert verdict(planted(only=[10, 11, 12])) == ""
    events = [e for s in (0, 1, 2) for e in run("a", s, [2, 1], 10 + s)] + [
        e for s in (0, 1) for e in run("b", s, [2], 50)
    ]
    text = verdict(gathered(header(("a", "b"), (0, 1, 2)), [*events, *run("b", 2, [2], status=None)]))
    assert "b (too few seeds)" in text


def test_the_rank_sum_test_is_scipys_and_counts_every_split_where_values_tie():
    draw = random.Random(1).random
    for size in (3, 4, 6):
        first, second = [draw() for _ in range(size)], [0.3 + draw() for _ in range(size)]
        assert rank_sum(first, second) == pytest.approx(mannwhitneyu(first, second, method="exact").pvalue)
    first, second = [1, 2, 2, inf], [2, 3, inf, inf]
    values = [*first, *second]
    rank = {v: sum(w < v for w in values) + (1 + values.count(v)) / 2 for v in values}
    sums = [sum(rank[values[i]] for i in chosen) for chosen in combinations(range(8), 4)]
    off = abs(sum(rank[v] for v in first) - 18)
    assert rank_sum(first, second) == pytest.approx(sum(abs(s - 18) >= off for s in sums) / len(sums))
    assert rank_sum([5, 5, 5], [5, 5, 5]) == 1


def test_a_duel_of_two_that_always_miss_is_a_draw():
    each = duel([inf] * 3, "b", [inf] * 3)
    assert (each.factor, each.p, each.won, each.lost) == (1, 1, False, False)
