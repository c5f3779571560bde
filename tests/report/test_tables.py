"""The result table says who won what, and who missed."""

import io
from dataclasses import replace

import pytest
from rich.console import Console

from bench.small import run
from quadric.report.tables import fitting, for_terminal, percent, plain, result_table
from report.test_summary import record


@pytest.fixture
def table():
    return result_table(
        record(
            run("curveball", 0, [2, 0.05], 20),
            run("curveball", 1, [2, 0.09], 40),
            run("sgd", 0, [2, 0.3], 10),
            run("sgd", 1, [2, 0.5]),
            run("adam", 0, [2, 0.02], 60),
            run("adam", 1, [2, 0.02], 60),
            run("wild", 0, [2, 9], status="diverged"),
            run("wild", 1, [2, 9], status="diverged"),
            seeds=(0, 1),
        )
    )


def cells(table, optimizer):
    row = next(row for row in table.rows if row[0].main == optimizer)
    return dict(zip(table.columns, ((cell.main, cell.below) for cell in row), strict=True))


def test_columns_are_those_of_the_issue(table):
    assert table.columns == [
        "optimiser",
        "steps",
        "seconds",
        "train loss",
        "train error",
        "test error",
        "steps to target",
        "seconds to target",
    ]


def test_a_row_has_the_median_and_the_spread(table):
    row = cells(table, "curveball")
    assert row["train loss"] == ("0.0700", "0.050 – 0.090")
    assert row["test error"] == ("1.40 %", "1.00 – 1.80 %")
    assert row["steps to target"] == ("30", "20 – 40")
    assert row["seconds to target"] == ("1.50", "1.0 – 2.0")


def test_every_seed_has_its_time_to_the_target_and_misses_are_infinite(table):
    (part,) = table.parts
    assert part.columns == ["optimiser", "seed 0", "seed 1", "passes to target"]
    assert cells(part, "curveball")["seed 1"] == ("40", "2.00 s")
    assert cells(part, "curveball")["passes to target"] == ("30 / 30 / 0", "")
    assert cells(part, "sgd")["seed 1"] == ("inf", "after 10, 0.500 s")
    assert cells(part, "wild")["passes to target"] == ("–", "")


def test_methods_that_run_as_they_are_come_before_the_tuned_ones(table):
    assert [row[0].main for row in table.rows] == ["curveball", "adam", "wild", "sgd"]


def test_misses_and_divergence_are_shown_as_such(table):
    assert cells(table, "sgd")["steps to target"] == ("missed", "1 of 2 reached it")
    assert cells(table, "wild")["train loss"] == ("diverged", "")
    assert cells(table, "wild")["steps to target"] == ("missed", "")


def test_the_settings_are_in_the_row(table):
    assert cells(table, "sgd")["optimiser"] == ("sgd", "tuned, lr 0.1")
    assert cells(table, "curveball")["optimiser"] == ("curveball", "self-tuning")


def test_rankings_name_winners_losers_and_those_that_missed(table):
    assert "Steps to target: curveball 30, adam 60 (2×); not wild, sgd." in table.notes
    assert "Final test error: adam 0.40 %, curveball 1.40 % (3.5×), sgd 8.00 % (20×); not wild." in table.notes


def test_a_near_tie_has_no_factor():
    near = result_table(record(run("a", 0, [2, 0.05], 1000), run("b", 0, [2, 0.05], 1004), seeds=(0,)))
    assert "Steps to target: a 1,000, b 1,004." in near.notes


def test_a_problem_without_errors_has_no_such_columns():
    *looks, end = run("a", 0, [2, 1])
    events = [*(replace(look, train_error=None, test_error=None) for look in looks), end]
    columns = result_table(record(events, seeds=(0,))).columns
    assert not {"train error", "test error"} & set(columns)
    assert "test loss" in columns


@pytest.mark.parametrize(("width", "parts"), [(130, 1), (80, 2), (60, 3), (10, 7)])
def test_the_terminal_shows_the_same_rows_in_parts_that_fit(table, width, parts):
    found = fitting(table, width)
    assert len(found) == parts
    assert [i for part in found for i in part[1:]] == list(range(1, len(table.columns)))
    if width < 60:
        return
    console = Console(width=width, record=True, file=io.StringIO())
    console.print(*for_terminal(table, console.width))
    text = console.export_text()
    for row in table.rows:
        for cell in row:
            assert cell.main in text
            assert cell.below in text


@pytest.mark.parametrize(
    ("value", "digits", "text"),
    [
        (0, 3, "0.00"),
        (0.01234, 3, "0.0123"),
        (1.5, 2, "1.5"),
        (12.3, 2, "12"),
        (1234, 3, "1,234"),
        (1e-7, 2, "1.0e-07"),
        (5e6, 3, "5.00e+06"),
    ],
)
def test_numbers_keep_their_significant_digits(value, digits, text):
    assert plain(value, digits) == text


def test_shares_are_per_cent():
    assert percent(0.0278) == "2.78 %"
