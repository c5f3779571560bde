"""The record of a search."""

import pytest

from quadric.bench.journal import Journal
from quadric.bench.search.records import LAYOUT, Found, Trial, read


def trial(number, *scores):
    return Trial(number, {"lr": 0.1}, "finished" if scores else "pruned", "", 1.0, list(scores))


def test_written_and_read(tmp_path):
    path = tmp_path / "records.jsonl"
    with Journal(path, LAYOUT, {"search": {"problem": "p"}}) as lines:
        lines.write("trial", {**vars(trial(0, 1.0, 2.0))})
        lines.write("importance", {"shares": {"lr": 0.5}})
        lines.write("trial", {**vars(trial(1))})
        lines.write("importance", {"shares": {"lr": 1.0}})
    found = read(path)
    assert found.trials == [trial(0, 1.0, 2.0), trial(1)]
    assert found.importance == {"lr": 1.0}
    assert found.header["search"] == {"problem": "p"}
    path.write_text(path.read_text()[:-5])
    assert "cut off" in read(path).damage


def test_an_unknown_line_is_refused(tmp_path):
    path = tmp_path / "records.jsonl"
    with Journal(path, LAYOUT, {"search": {}}) as lines:
        lines.write("other", {})
        lines.write("importance", {"shares": {}})
    with pytest.raises(ValueError, match="line 2 is not a record"):
        read(path)


def test_best_first_and_its_error():
    found = Found({}, [trial(0, 2.0, 4.0), trial(1), trial(2, 1.0, 2.0)], {})
    assert [each.number for each in found.finished] == [2, 0]
    assert found.finished[0].error == pytest.approx(0.5)
    assert trial(0, 1.0).error is None


def test_what_cannot_be_told_from_the_best():
    best = trial(0, 1.0, 1.1, 0.9, 1.0)
    near = trial(1, 1.2, 0.9, 1.1, 0.9)  # the mean is worse, and the differences have both signs
    far = trial(2, 1.5, 1.6, 1.4, 1.6)
    assert [each.number for each in Found({}, [far, near, best], {}).equals] == [0, 1]
    assert [each.number for each in Found({}, [trial(0, 1.0), trial(1, 1.1), trial(2, 1.0)], {}).equals] == [0, 2]
