"""Record files in general; `tests/bench/test_records.py` has those of comparisons."""

import pytest

from quadric.core import records
from quadric.core.records import append, mend, write_atomically


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


def test_a_file_that_cannot_be_replaced_stays_and_leaves_no_part(tmp_path, monkeypatch):
    path = tmp_path / "file"
    path.write_text("old")

    def full(self, content):
        self.touch()
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pathlib.Path.write_bytes", full)
    with pytest.raises(OSError, match="No space left"):
        write_atomically(path, b"new")
    assert [(each.name, each.read_text()) for each in tmp_path.iterdir()] == [("file", "old")]


def test_what_cannot_be_appended_whole_is_not_there_at_all(tmp_path, monkeypatch):
    path = tmp_path / "file"
    append(path, b"one\n")
    open_ = type(path).open

    class Full:
        def __init__(self, file):
            self.file = file

        def __enter__(self):
            return self

        def __exit__(self, *_):
            self.file.close()

        def tell(self):
            return self.file.tell()

        def write(self, content):
            if len(content) < 4:
                raise OSError(28, "No space left on device")
            return self.file.write(content[:2])

    with monkeypatch.context() as patch:
        patch.setattr(type(path), "open", lambda self, *a, **k: Full(open_(self, *a, **k)))
        with pytest.raises(OSError, match=r"No space left on device: .*file"):
            append(path, b"two\n")
    assert path.read_bytes() == b"one\n"
