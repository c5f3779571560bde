"""Table 1: blocks of runs, recorded, continued after a kill with equal results, and counted."""

import json
import signal
import subprocess
import sys
import time

import pytest

from quadric.bench.paper import grid, table1
from quadric.bench.paper.columns import COLUMNS
from quadric.bench.paper.contenders import CONTENDERS
from quadric.bench.paper.table1 import Block, count, missing, read, record, run

CONTENDER = {contender.name: contender for contender in CONTENDERS}


@pytest.fixture
def small(monkeypatch):
    """Two columns, two methods, blocks of two seeds."""
    monkeypatch.setattr(table1, "COLUMNS", COLUMNS[:2])
    monkeypatch.setattr(table1, "CONTENDERS", [CONTENDER["bfgs"], CONTENDER["curveball"]])
    monkeypatch.setattr(table1, "BLOCK", 2)
    original = table1.run
    monkeypatch.setattr(table1, "run", lambda column, contender, first: original(column, contender, first, 2))


def lines(path):
    return path.read_text().splitlines()[1:]


def test_an_interrupted_record_goes_on_to_equal_lines(small, tmp_path):
    whole, parts = tmp_path / "whole.jsonl", tmp_path / "parts.jsonl"
    assert [left for _, left in record(whole, {}, 4)] == list(range(7, -1, -1))
    for _, left in record(parts, {}, 4):
        if left == 5:
            break
    parts.write_bytes(parts.read_bytes() + b'{"kind": "block", "meth')
    assert len(list(record(parts, {}, 4))) == 5
    assert lines(parts) == lines(whole)
    assert list(record(parts, {}, 4)) == []


def test_more_runs_go_on_from_fewer(small, tmp_path):
    path = tmp_path / "records.jsonl"
    assert len(list(record(path, {}, 2))) == 4
    assert len(list(record(path, {}, 4))) == 4
    assert count(read(path)[1], "curveball", "rosenbrock").runs == 4


def test_a_record_of_other_settings_is_refused(small, tmp_path, monkeypatch):
    path = tmp_path / "records.jsonl"
    next(record(path, {}, 2))
    monkeypatch.setattr(table1, "CONTENDERS", [CONTENDER["bfgs"]])
    with pytest.raises(
        ValueError, match=r"was recorded with other settings. Name another directory, or add --overwrite"
    ):
        next(record(path, {}, 2))


def test_a_record_that_is_none_is_refused(tmp_path):
    path = tmp_path / "records.jsonl"
    path.write_text('{"kind": "table1", "format": 1}\n{"kind": "block", "a": 1}\n{"kind": "block"}\n')
    with pytest.raises(ValueError, match=r"line 2 is not a record .* or run it again with --overwrite"):
        read(path)
    path.write_text('{"kind": "header", "format": 1}\n')
    with pytest.raises(ValueError, match="line 1 is not the header of a record file of format 1"):
        read(path)


def test_unsolved_runs_are_counted_and_say_why():
    block = run(COLUMNS[2], CONTENDER["momentum"], 0, size=3, most_steps=40)
    assert block.steps == [None] * 3
    assert block.reasons == {str(seed): "finished: 40 steps done" for seed in range(3)}
    found = count([block], "momentum", COLUMNS[2].problem)
    assert (found.runs, found.solved, len(found.reasons)) == (3, 0, 3)


def test_mean_and_deviation_are_over_the_solved_runs():
    blocks = [
        Block("adam", "rosenbrock", 0, [2, None], {"1": "finished: 9 steps done"}),
        Block("adam", "rosenbrock", 2, [4, 6], {}),
    ]
    found = count(blocks, "adam", "rosenbrock")
    assert (found.runs, found.solved, found.mean, found.std) == (4, 3, 4.0, 2.0)


def test_every_pair_is_run_once_for_each_block():
    todo = missing([], 40)
    assert len(todo) == len(set(todo)) == 2 * len(COLUMNS) * len(CONTENDERS)


def test_results_are_the_same_when_repeated():
    again = [run(COLUMNS[1], CONTENDER["curveball-authors"], 20, size=3) for _ in range(2)]
    assert again[0] == again[1]


def test_a_killed_run_goes_on(tmp_path):
    command = "from quadric.cli.app import main; main()"
    arguments = [sys.executable, "-c", command, "paper", "table1", "--out", str(tmp_path)]
    process = subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    path, deadline = tmp_path / "records.jsonl", time.monotonic() + 120
    while not (path.exists() and len(path.read_text().splitlines()) > 1):
        assert time.monotonic() < deadline, "no block was recorded"
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.1)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    before = lines(path)
    column, contender, first = missing([], 20)[0]
    assert json.loads(before[0])["steps"] == run(column, contender, first).steps
    next(record(path, {}, 20))
    assert lines(path)[: len(before)] == before
    assert len(lines(path)) == len(before) + 1


# ---- the authors' grid


def test_the_grid_is_the_authors():
    assert len(list(grid.members("momentum"))) == 24
    assert len(list(grid.members("adam"))) == 32
    assert next(grid.members("adam")) == {"lr": 0.1, "betas": [0.9, 0.99]}


def test_the_search_takes_the_lowest_final_loss_and_passes_over_what_diverges():
    found = grid.search("momentum", COLUMNS[0], most_steps=60)
    losses = found["final losses"]
    tried = list(grid.members("momentum"))
    assert losses[0] is None
    assert tried.index(found["chosen"]) == losses.index(min(loss for loss in losses if loss is not None))


def test_what_was_found_is_there_for_every_problem():
    for column in COLUMNS:
        for method in grid.MAKE:
            assert grid.chosen(method, column.problem) in list(grid.members(method))
