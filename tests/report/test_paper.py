"""Table 1 beside the published figures, and trajectories as picture and table."""

import io
import math

import numpy as np
import pytest
from matplotlib.image import imread

from quadric.bench.paper.columns import COLUMNS
from quadric.bench.paper.contenders import CONTENDERS
from quadric.bench.paper.published import TABLE1
from quadric.bench.paper.table1 import Block
from quadric.bench.trajectories import Method, Scene, Surface, Trajectory, Ways
from quadric.report import table1, trajectories
from quadric.report.markdown import markdown


def row(table, title, which=0):
    (at,) = [i for i, cells in enumerate(table.rows) if cells[0].main == title]
    return [(cell.main, cell.below) for cell in table.rows[at + which]][1:]


@pytest.fixture
def blocks():
    return [
        Block("momentum", "rosenbrock", 0, [300, 400], {}),
        Block("momentum", "rosenbrock-u3-squared", 0, [None] * 2, {"0": "finished: 9 steps done", "1": "diverged: x"}),
        Block("curveball", "rosenbrock", 0, [4, None], {"1": "gave up: y"}),
    ]


def test_mean_deviation_and_how_many_were_solved(blocks):
    table = table1.table(blocks)
    assert row(table, "SGD + momentum")[:3] == [("350 ± 70.7", "2 of 2"), ("–", ""), ("never", "0 of 2")]
    assert row(table, "CurveBall, default")[0] == ("4.0", "1 of 2")
    assert table.title == "Table 1 of the CurveBall paper, 0 to 2 runs"


def test_the_published_row_stands_below_ours_where_there_is_one(blocks):
    table = table1.table(blocks)
    published = row(table, "SGD + momentum", 1)
    assert [main for main, _ in published] == ["370 ± 40", "846 ± 217", "4,069 ± 565", "–", "–", "95 ± 2"]
    assert len(table.rows) == 3


def test_unsolved_runs_are_named_in_the_notes(blocks):
    notes = table1.table(blocks).notes
    assert "Unsolved, SGD + momentum on U[0,3] ε²: 1 × out of steps, 1 × diverged." in notes
    assert "Unsolved, CurveBall, default on Rosenbrock: 1 × gave up." in notes


def test_no_runs_no_rows():
    assert table1.table([]).rows == []


def test_every_published_row_and_column_has_one_of_ours():
    assert {contender.published for contender in CONTENDERS} - {""} == set(TABLE1)
    for figures in TABLE1.values():
        assert set(figures) == {column.published for column in COLUMNS} - {""}


def test_markdown_has_a_line_for_each_row(blocks):
    table = table1.table(blocks)
    lines = markdown(table).splitlines()
    assert lines[2].startswith("| SGD + momentum | 350 ± 70.7 (2 of 2) | – |")
    assert len([line for line in lines if line.startswith("| ")]) == len(table.rows) + 1
    assert f"- {table.notes[0]}" in lines


def ways(*done, surfaces=None, scenes=("one",)):
    methods = [Method(t.method, "sgd", {"lr": 0.1}) for t in done if t.scene == scenes[0]]
    return Ways(
        {"title": "Ways"}, [Scene(name, "f", [[0.0, 0.0]]) for name in scenes], methods, list(done), surfaces or {}
    )


def way(method, points, values, status="finished", scene="one"):
    return Trajectory(scene, method, points, values, status, f"{status} because")


def size(picture):
    return imread(io.BytesIO(picture), format="png").shape[:2]


GRID = [[float(x * x + y * y) for x in range(-3, 4)] for y in range(-3, 4)]


def test_table_of_one_scene_has_settings_status_and_reasons():
    table = trajectories.table(
        ways(way("good", [[1, 1], [0, 0]], [2.0, 0.0]), way("bad", [[1, 1], [None, 5]], [2.0, None], "diverged"))
    )
    assert row(table, "good") == [("1", ""), ("0.00", ""), ("0.00", "")]
    assert row(table, "bad") == [("1", "diverged"), ("not finite", ""), ("2.00", "")]
    assert table.rows[0][0].below == "sgd, lr 0.1"
    assert table.notes == ["good: finished because.", "bad: diverged because."]


def test_table_of_several_scenes_has_a_column_for_each():
    one, two = way("a", [[1, 1]], [2.0], "solved"), way("a", [[1, 1]] * 3, [2.0] * 3, scene="two")
    table = trajectories.table(ways(one, two, scenes=("one", "two")))
    assert table.columns == ["steps", "one", "two"]
    assert row(table, "a") == [("1", "solved"), ("3", "out of steps")]


@pytest.mark.parametrize("surfaces", [None, {"one": Surface("one", (-3.0, 3.0, -3.0, 3.0), GRID)}])
@pytest.mark.parametrize("last", [1e300, math.nan, None, -1e300])
def test_what_runs_away_is_drawn_with_and_without_contours(surfaces, last):
    away = way("away", [[1, 1], [2, 2], [9e9, None]], [2.0, 8.0, last], "diverged")
    stuck = way("stuck", [[1, 1]], [2.0], "gave up")
    height, width = size(trajectories.draw(ways(away, stuck, surfaces=surfaces)))
    assert width > height > 300


def test_functions_with_holes_and_flat_ones_are_drawn():
    holes = [[None if x > 0 else 1.0 * x for x in range(-3, 4)] for _ in range(7)]
    for values in (holes, np.ones((7, 7)).tolist()):
        found = Surface("one", (-3.0, 3.0, -3.0, 3.0), values)
        trajectories.draw(ways(way("a", [[1, 1], [0, 0]], [0.0, 0.0]), surfaces={"one": found}))


def test_more_scenes_make_a_taller_picture():
    one, two = way("a", [[1, 1]], [2.0]), way("a", [[1, 1]], [2.0], scene="two")
    height, width = size(trajectories.draw(ways(one, two, scenes=("one", "two"))))
    assert height > 0.8 * width
