"""Record files in general; `tests/bench/test_records.py` has those of comparisons."""

import pytest

from quadric.core import records
from quadric.core.records import mend, write_atomically


def test_an_atomic_write_that_fails_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "report.html"
    write_atomically(path, b"old")

    def crash(source, target):
        raise OSError("disk full")

    monkeypatch.setattr(records.os, "replace", crash)
    with pytest.raises(OSError, match="disk full"):
        write_atomically(path, b"new")
    assert path.read_bytes() == b"old"


@pytest.mark.parametrize(
    ("content", "left"), [(b"one\ntwo\n", b"one\ntwo\n"), (b"one\ntw", b"one\n"), (b"on", b""), (b"", b"")]
)
def test_mending_takes_away_what_was_cut_off_and_nothing_else(tmp_path, content, left):
    path = tmp_path / "records.jsonl"
    path.write_bytes(content)
    assert mend(path) == (content != left)
    assert path.read_bytes() == left
