"""Record files: written as it happens, read back whole, and honest about damage."""

import json
import math

import pytest

from bench.small import header, run
from quadric.bench.records import Recorder, read, read_header


@pytest.fixture
def path(tmp_path):
    """A record of two runs, the second interrupted."""
    path = tmp_path / "records.jsonl"
    recorder = Recorder.begin(path, header())
    for event in [*run("sgd", 0, [2.0, 0.05], reached=10), *run("curveball", 1, [2.0, 0.5], status=None)]:
        recorder.write(event)
    return path


def test_what_is_written_comes_back(path):
    record = read(path)
    assert record.header == header()
    assert record.damage is None
    (sgd,) = [run for run in record.runs_of("sgd") if run.seed == 0]
    assert [evaluation.train_loss for evaluation in sgd.evaluations] == [2.0, 0.05]
    assert (sgd.reached.step, sgd.end.status, sgd.status) == (10, "finished", "finished")


def test_every_pair_of_optimiser_and_seed_has_a_run_and_one_without_end_was_interrupted(path):
    record = read(path)
    assert [(run.optimizer, run.seed) for run in record.runs] == [(o, s) for o in ("curveball", "sgd") for s in (0, 1)]
    assert record.runs_of("curveball")[1].status == "interrupted"


def test_every_event_is_in_the_file_at_once(tmp_path):
    path = tmp_path / "records.jsonl"
    recorder = Recorder.begin(path, header())
    assert read(path).header == header()
    for count, event in enumerate(run("sgd", 0, [2.0, 1.0]), start=2):
        recorder.write(event)
        assert len(path.read_text().splitlines()) == count


def test_every_line_is_standard_json_even_when_a_loss_is_not_finite(tmp_path):
    path = tmp_path / "records.jsonl"
    recorder = Recorder.begin(path, header())
    for event in run("sgd", 0, [math.nan, math.inf], quantities={"damping": -math.inf}):
        recorder.write(event)
    lines = [json.loads(line, parse_constant=pytest.fail) for line in path.read_text().splitlines()]
    assert lines[1]["train_loss"] is lines[2]["train_loss"] is lines[1]["quantities"]["damping"] is None


@pytest.mark.parametrize("cut", [1, 10, 60])
def test_a_last_line_that_is_cut_off_is_named_and_the_rest_survives(path, cut):
    text = path.read_text()
    whole = read(path)
    path.write_text(text[: -1 - cut])
    record = read(path)
    number = len(text.splitlines())
    assert (
        record.damage == f"line {number}, the last, is cut off and was left out; the {number - 1} before it are whole"
    )
    assert record.runs_of("sgd") == whole.runs_of("sgd")
    assert len(record.runs_of("curveball")[1].evaluations) == 1


def test_a_broken_line_in_the_middle_is_refused_with_its_number(path):
    lines = path.read_text().splitlines()
    lines[2] = lines[2][:30]
    path.write_text("\n".join(lines) + "\n")
    with pytest.raises(ValueError, match=r"records\.jsonl: line 3 is not a record .* Remove that line"):
        read(path)


@pytest.mark.parametrize("first", ["", "not json", "[1, 2]", '{"kind": "end"}', '{"kind": "header", "format": 0}'])
def test_a_file_that_does_not_begin_with_a_header_is_refused(tmp_path, first):
    path = tmp_path / "records.jsonl"
    path.write_text(first + "\n")
    with pytest.raises(ValueError, match=r"line 1 is not the header of a record file .*run the comparison again"):
        read_header(path)
