"""Comparisons that go on: attempts that supersede others, and what may not be mixed."""

from dataclasses import replace
from pathlib import Path

import pytest

from bench.small import header, run
from quadric.bench.continuation import check_alike, check_same, mixtures
from quadric.bench.records import Recorder, Resumed, gathered, read
from quadric.bench.runner import Entry, rounds

HERE = Path("runs/x")
MACHINE = {"date": "Monday", "revision": "abc", "code": "123", "processor": "slow", "threads": "1", "data": "d1"}


def top(**changes):
    return replace(header(), environment=MACHINE | changes)


def test_an_unfinished_run_that_was_begun_again_counts_as_it_went_the_second_time():
    first = [*run("sgd", 0, [2, 1], 10), *run("curveball", 0, [2, 1], status=None)]
    again = run("curveball", 0, [2, 0.5], 10)
    record = gathered(header(seeds=(0,)), [*first, Resumed([0], {}), *again])
    assert [(r.optimizer, r.status, r.evaluations[-1].train_loss) for r in record.runs] == [
        ("curveball", "finished", 0.5),
        ("sgd", "finished", 1),
    ]


def test_an_unfinished_run_that_was_not_begun_again_is_kept():
    record = gathered(header(seeds=(0,)), [*run("sgd", 0, [2, 1], status=None), Resumed([0], {})])
    assert [e.train_loss for e in record.runs_of("sgd")[0].evaluations] == [2, 1]


def test_seeds_can_be_added_and_what_is_over_is_not_run_again():
    record = gathered(header(seeds=(0,)), [*run("sgd", 0, [2, 1]), Resumed([0, 1], {})])
    assert record.seeds == [0, 1]
    assert record.over == {("sgd", 0)}
    todo = rounds([Entry("curveball"), Entry("sgd")], record.seeds, record.over)
    assert [(each.seed, [entry.name for entry in each.entries]) for each in todo] == [
        (0, ["curveball"]),
        (1, ["sgd", "curveball"]),
    ]


def test_resuming_takes_away_a_torn_line_and_appends(tmp_path):
    path = tmp_path / "records.jsonl"
    recorder = Recorder.begin(path, header())
    for event in run("sgd", 0, [2, 1]):
        recorder.write(event)
    whole = path.read_text()
    path.write_text(whole + '{"kind": "evalu')
    Recorder.resume(path, Resumed([0, 1], {})).write(run("sgd", 1, [3])[0])
    assert path.read_text().startswith(whole)
    record = read(path)
    assert record.damage is None
    assert [len(r.evaluations) for r in record.runs_of("sgd")] == [2, 1]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"epochs": 3}, "epochs was 2 and is 3"),
        ({"problem": header().problem | {"batch_size": 8}}, "batch_size was 128 and is 8"),
        (
            {"problem": header().problem | {"target": {"text": "train loss ≤ 0.2"}}},
            "target was train loss ≤ 0.1 and is train loss ≤ 0.2",
        ),
        ({"optimizers": header(("adam",)).optimizers}, "optimisers was curveball, sgd lr 0.1 and is adam"),
    ],
)
def test_another_comparison_is_refused_with_what_differs(changes, words):
    with pytest.raises(ValueError, match=r"runs/x holds another comparison: .*name another directory") as caught:
        check_same(HERE, gathered(top(), []), replace(top(), **changes))
    assert words in str(caught.value)


@pytest.mark.parametrize("name", ["revision", "code", "processor", "threads", "data"])
def test_other_code_data_or_hardware_is_refused_with_what_differs(name):
    record = gathered(top(), [])
    words = rf"recorded elsewhere: {name} was {MACHINE[name]} and is other\. .* add --mix, and the report will say so"
    with pytest.raises(ValueError, match=words):
        check_alike(HERE, record.environments, MACHINE | {name: "other"})
    check_alike(HERE, record.environments, MACHINE | {"date": "Tuesday"})


def test_it_is_the_last_environment_that_counts_and_every_change_is_told():
    moved = MACHINE | {"date": "Tuesday", "processor": "fast"}
    record = gathered(top(), [Resumed([0], MACHINE | {"date": "Sunday"}), Resumed([0], moved)])
    check_alike(HERE, record.environments, moved)
    assert mixtures(record.environments) == ["Mixed: from Tuesday on, processor was slow and is fast."]
