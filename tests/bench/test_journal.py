"""Record files that are made and continued alike."""

from quadric.bench.journal import Journal, header_kind
from quadric.core.records import Layout

LAYOUT = Layout("this", 3, "do it again")


def values(path):
    return [part["value"] for part in LAYOUT.read_lines(path, dict)[0]]


def test_a_journal_goes_on_after_a_line_that_was_cut_off(tmp_path):
    path = tmp_path / "records.jsonl"
    with Journal(path, LAYOUT, {"title": "one"}) as lines:
        lines.write("part", {"value": 1})
        lines.write("part", {"value": 2})
    path.write_bytes(path.read_bytes()[:-4])
    with Journal(path, LAYOUT, {"title": "another"}) as lines:
        lines.write("part", {"value": 3})
    assert LAYOUT.read_header(path, dict) == {"title": "one", "format": 3}
    assert values(path) == [1, 3]
    assert header_kind(path) == "this"


def test_no_kind_where_there_is_no_header(tmp_path):
    path = tmp_path / "records.jsonl"
    assert header_kind(path) == ""
    for text in ("", "not json\n", "[1]\n", "{}\n"):
        path.write_text(text)
        assert header_kind(path) == ""
