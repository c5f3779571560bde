"""Sensitivity to the searched setting, and performance profiles with known ratios."""

from dataclasses import replace
from math import inf

import pytest
from matplotlib.figure import Figure

from bench.small import header
from quadric.bench.records import gathered
from quadric.report.profile import profile, write_profile
from quadric.report.sensitivity import draw_loss, draw_sensitivity, draw_steps
from report.test_verdict import planted

SGD = header().optimizers[1]


def test_hits_are_a_line_misses_are_hollow_at_the_top_and_the_choice_has_a_ring():
    axes = Figure().subplots()
    draw_steps(axes, SGD, 0, top=50.0)
    line, ring, misses = axes.lines
    assert [(x, y) for x, y in zip(*line.get_data(), strict=True) if y == y] == [(0.1, 20.0)]
    assert [list(values) for values in ring.get_data()] == [[0.1], [20.0]]
    assert [list(values) for values in misses.get_data()] == [[0.01, 1.0], [50.0, 50.0]]


def test_the_loss_is_drawn_where_it_is_finite():
    axes = Figure().subplots()
    draw_loss(axes, SGD, 0)
    assert [list(values) for values in axes.lines[0].get_data()] == [[0.01, 0.1], [0.2, 0.01]]


def test_without_a_search_there_is_no_picture():
    assert draw_sensitivity(planted(a=[1], b=[2])) is None


def test_profiles_are_shares_of_ratios_to_the_best_and_misses_are_infinite():
    first = planted(fast=[10, 10], slow=[20, 40])
    second = planted(fast=[None, 30], slow=[30, 30])
    found = profile([first, second], "steps")
    assert found.ratios == {"fast": [1, 1, inf, 1], "slow": [2, 4, 1, 1]}
    assert [found.share("slow", tau) for tau in (1, 2, 4)] == [0.5, 0.75, 1]
    assert [found.share("fast", tau) for tau in (1, 1e9)] == [0.75, 0.75]


def test_methods_that_some_records_lack_and_seeds_that_are_unfinished_are_left_out():
    first, second = planted(a=[10], b=[20], c=[5]), planted(b=[10], a=[20])
    assert profile([first, second], "steps").ratios == {"a": [1, 2], "b": [2, 1]}
    with pytest.raises(ValueError, match="no method finished the same seed on every problem"):
        profile([planted(a=[1]), planted(b=[1])], "steps")
    unfinished = gathered(header(("a", "b"), (0,)), [])
    assert profile([first, unfinished], "steps").ratios == {"a": [1], "b": [2]}


def test_profiles_are_written_with_their_numbers_and_what_was_mixed(tmp_path):
    first, second = planted(a=[10], b=[20]), planted(a=[10], b=[5])
    second = replace(second, header=replace(second.header, environment={"torch": "3"}))
    path = write_profile(tmp_path, [first, second])
    assert path.read_bytes().startswith(b"\x89PNG")
    text = (tmp_path / "profile.md").read_text()
    assert "Share of 2 cases (problem × seed) over digits-mlp (train loss ≤ 0.1), digits-mlp" in text
    assert "| b | 50 % | 100 % | 100 % | 100 % |" in text
    assert "Mixed: for digits-mlp, torch was 2 and is 3." in text
