"""`quadric paper`: table 1 and figure 1 at a size for tests."""

import pytest

from quadric.bench import trajectories
from quadric.bench.paper import figure1, table1
from quadric.bench.paper.columns import COLUMNS
from quadric.bench.paper.contenders import CONTENDERS
from quadric.bench.trajectories import read

CONTENDER = {contender.name: contender for contender in CONTENDERS}


@pytest.fixture
def small(monkeypatch):
    """The table's blocks of two seeds, all methods on two problems; unsolved after 60 steps."""
    original = table1.run
    monkeypatch.setattr(table1, "COLUMNS", (COLUMNS[0], COLUMNS[2]))
    monkeypatch.setattr(table1, "BLOCK", 2)
    monkeypatch.setattr(table1, "SCALES", {"small": 2, "full": 4})
    monkeypatch.setattr(table1, "run", lambda *block: original(*block, size=2, most_steps=60))


def test_table1_prints_ours_beside_the_published_and_goes_on(quadric, tmp_path, small):
    status, output, _ = quadric("paper", "table1", "--out", tmp_path)
    assert status == 0
    text = " ".join(output.split())
    for part in ("published 370 ± 40", "0 of 2", "never", "2 of 2", "as recalled, approximate", "twice the Jacobian"):
        assert part in text
    assert "Unsolved, SGD + momentum on U[0,3] ε²: 2 × out of steps." in text
    assert output.splitlines()[-1] == f"report: {tmp_path / 'report.html'}"
    before = (tmp_path / "records.jsonl").read_text()
    assert quadric("paper", "table1", "--out", tmp_path)[0] == 0
    assert (tmp_path / "records.jsonl").read_text() == before
    status, output, _ = quadric("paper", "table1", "--scale", "full", "--out", tmp_path)
    assert status == 0
    assert "4 of 4" in output
    assert (tmp_path / "records.jsonl").read_text().startswith(before)
    assert quadric("paper", "table1", "--out", tmp_path, "--overwrite")[0] == 0
    assert len((tmp_path / "records.jsonl").read_text()) == pytest.approx(len(before), abs=200)


def test_report_redraws_table1(quadric, tmp_path, small):
    _, output, _ = quadric("paper", "table1", "--out", tmp_path)
    status, again, _ = quadric("report", tmp_path)
    assert status == 0
    assert output.endswith(again)


def test_table1_interrupted_says_how_to_go_on(quadric, tmp_path, small, monkeypatch):
    original, calls = table1.run, []

    def run(*block):
        calls.append(block)
        if len(calls) > 3:
            raise KeyboardInterrupt
        return original(*block)

    monkeypatch.setattr(table1, "run", run)
    status, output, error = quadric("paper", "table1", "--out", tmp_path)
    assert (status, error) == (1, "error: interrupted; the same command goes on from here.")
    assert "0 to 2 runs" in output


def test_table1_leaves_the_directory_of_another_command_alone(quadric, tmp_path, small):
    (tmp_path / "report.html").write_text("mine")
    status, _, error = quadric("paper", "table1", "--out", tmp_path, "--overwrite")
    assert status == 1
    assert "no record file of quadric, which therefore does not replace" in error
    assert (tmp_path / "report.html").read_text() == "mine"
    (tmp_path / "report.html").unlink()
    quadric("trajectories", "--optimizers", "sgd", "--steps", 2, "--out", tmp_path)
    status, _, error = quadric("paper", "table1", "--out", tmp_path)
    assert status == 1
    assert "line 1 is not the header of a record file of format 1" in error


def test_figure1_draws_every_method_in_every_scene(quadric, tmp_path, monkeypatch):
    original = figure1.run
    monkeypatch.setattr(trajectories, "SIDE", 9)
    monkeypatch.setattr(figure1, "run", lambda title, contender, most_steps: original(title, contender, 15))
    status, output, _ = quadric("paper", "figure1", "--out", tmp_path)
    assert status == 0
    assert "solved" in output
    assert "out of steps" in output
    ways = read(tmp_path / "records.jsonl", figure1.LAYOUT)
    assert len(ways.trajectories) == 3 * len(figure1.SHOWN)
    assert {tuple(t.points[0]) for t in ways.trajectories} == {(-0.25, -0.25)}
    figure = tmp_path / "figures" / "trajectories.png"
    before = figure.read_bytes()
    assert quadric("report", tmp_path)[0] == 0
    assert figure.read_bytes() == before


@pytest.mark.parametrize("command", [["paper"], ["paper", "table1"], ["paper", "figure1"], ["trajectories"]])
def test_help_has_examples(quadric, command):
    status, output, _ = quadric(*command, "--help")
    assert status == 0
    assert (len(command) == 1 and command[0] == "paper") or "Example" in output
    assert f"quadric {' '.join(command)}" in output


def test_unknown_scales_and_figures_are_bad_usage(quadric):
    assert quadric("paper", "table1", "--scale", "huge")[0] == 2
    assert quadric("paper", "table9")[0] == 2
