"""Records of an inspection: what is read back, what is cut off, and what is refused."""

import pytest

from quadric.bench.inspection.cost import size
from quadric.bench.inspection.parts import Part
from quadric.bench.inspection.point import Point
from quadric.bench.inspection.records import (
    InspectionHeader,
    InspectionRecorder,
    difference,
    is_inspection,
    read_inspection,
    results_in,
)
from quadric.core.records import mend
from quadric.operators.estimate import Estimate

HEADER = InspectionHeader({"subject": "net", "seed": 0, "checkpoint": "a.pt"}, {"torch": "2"})
POINT = Point(0.5, 0.1, 2.0, 100, 4, 0.01, {"ggn": 0.02}, None, [])


def part(name="ggn-trace", **settings):
    return Part(name, "a trace", "ggn", settings, 10, 1, lambda results, progress: Estimate(1.0))


@pytest.fixture
def path(tmp_path):
    with InspectionRecorder(tmp_path / "records.jsonl", HEADER) as recorder:
        recorder.begin(POINT)
        recorder.finish(part(k=1), Estimate(1.0), 0.5, ["beware", "beware"])
        recorder.finish(part(k=2), Estimate(2.0), 0.5, [])
    return tmp_path / "records.jsonl"


def test_what_is_written_is_read_and_the_last_of_a_part_counts(path):
    found = read_inspection(path)
    assert (found.header, found.point) == (HEADER, POINT)
    assert found.findings["ggn-trace"].settings == {"k": 2}
    assert found.results == {"ggn-trace": Estimate(2.0)}
    assert found.findings["ggn-trace"].answers(part(k=2))
    assert not found.findings["ggn-trace"].answers(part(k=1))
    assert results_in(path) == ["ggn-trace-k1.npz", "ggn-trace-k2.npz"]


def test_warnings_are_kept_once(path):
    assert '"warnings": ["beware"]' in path.read_text()


def test_a_line_that_is_cut_off_is_left_out_and_mended(path):
    whole = path.read_bytes()
    path.write_bytes(whole[:-9])
    assert read_inspection(path).findings["ggn-trace"].settings == {"k": 1}
    mend(path)
    assert path.read_bytes() == b"".join(whole.splitlines(keepends=True)[:-1])


def test_a_line_that_is_no_record_is_named(path):
    path.write_text(path.read_text() + "{}\n" + path.read_text())
    with pytest.raises(
        ValueError, match=r"line 5 is not a record .*Remove that line, or inspect again, with --overwrite"
    ):
        read_inspection(path)


def test_a_result_that_is_gone_is_said(path):
    (path.parent / "results" / "ggn-trace-k2.npz").unlink()
    with pytest.raises(FileNotFoundError, match=r"There is no file .*ggn-trace-k2\.npz"):
        read_inspection(path)


def test_other_files_are_no_inspections(tmp_path):
    for content in (
        "",
        "hello\n",
        '{"kind": "header", "format": 1}\n',
        '{"kind": "inspection", "format": 0}\n',
    ):
        (tmp_path / "records.jsonl").write_text(content)
        assert not is_inspection(tmp_path / "records.jsonl")
        assert results_in(tmp_path / "records.jsonl") == []


def test_differences_are_said_and_where_the_checkpoint_lay_does_not_count():
    assert difference(HEADER, {"subject": "net", "seed": 0, "checkpoint": "b.pt"}) == ""
    assert difference(HEADER, {"subject": "net", "seed": 1}) == "seed 0, now 1"


@pytest.mark.parametrize(
    ("count", "words"), [(12, "12 bytes"), (25_392, "25.4 kB"), (3e12, "3 TB"), (5e15, "5e+03 TB")]
)
def test_sizes(count, words):
    assert size(count) == words


def test_a_part_with_other_settings_has_another_file():
    assert part(k=3, tol=1e-4, lr=None).file == "ggn-trace-k3-tol0.0001.npz"
