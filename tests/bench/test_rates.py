"""Settings and targets from the records of `quadric tune` and `quadric compare`."""

from dataclasses import asdict

import pytest

from bench import small
from bench.small import header
from quadric import problems
from quadric.bench.journal import Journal
from quadric.bench.rates import entry_from, target_from
from quadric.bench.records import Recorder
from quadric.bench.runner import Entry
from quadric.bench.search.records import LAYOUT, Trial

SEARCH = {"problem": "digits-mlp", "optimiser": "kfac", "space": "damping=0.1:1", "judged by": "train loss"}


@pytest.fixture
def search(tmp_path):
    """Writes the record of a search for K-FAC's damping in the place where a comparison looks for it."""

    def write(*trials, **changes):
        (tmp_path / "kfac").mkdir()
        with Journal(tmp_path / "kfac" / "records.jsonl", LAYOUT, {"search": SEARCH | changes}) as lines:
            for number, (damping, score) in enumerate(trials):
                scores = [] if score is None else [score]
                lines.write("trial", asdict(Trial(number, {"damping": damping}, "finished", "", 1.0, scores)))
        return tmp_path

    return write


def test_settings_come_from_a_search_of_tune(search):
    found = entry_from(problems.get("digits-mlp"), "kfac@tuned", search((0.5, 0.2), (0.3, 0.1), (0.9, None)))
    assert (found.method, found.hyper, found.track) == ("kfac", {"damping": 0.3}, "tuned")
    assert found.origin == "quadric tune, the best of 3 trials in damping=0.1:1, by train loss"


def test_what_searches_nothing_needs_no_search(tmp_path):
    assert entry_from(problems.get("digits-mlp"), "kfac", tmp_path) == Entry("kfac", origin="no search, its defaults")


def test_searches_that_are_missing_of_something_else_or_in_vain_are_refused(search, tmp_path):
    with pytest.raises(ValueError, match=r"has no search for adamw: `quadric tune --out .*adamw` makes one"):
        entry_from(problems.get("digits-mlp"), "adamw", tmp_path)
    with pytest.raises(ValueError, match="Expected kfac or kfac@tuned, got 'kfac@home'"):
        entry_from(problems.get("digits-mlp"), "kfac@home", tmp_path)
    folder = search((0.5, None))
    with pytest.raises(ValueError, match="has no trial that finished, so there is no setting to run kfac with"):
        entry_from(problems.get("digits-mlp"), "kfac@tuned", folder)
    with pytest.raises(ValueError, match="is of kfac on digits-mlp, not of kfac on digits-cnn"):
        entry_from(problems.get("digits-cnn"), "kfac@tuned", folder)


@pytest.fixture
def comparison(tmp_path):
    """Writes the record of a comparison of SGD."""

    def write(*runs, **changes):
        recorder = Recorder.begin(
            tmp_path / "records.jsonl", header(**{"names": ("sgd",), "seeds": (0, 1, 2)} | changes)
        )
        for each in runs:
            for event in each:
                recorder.write(event)
        return tmp_path

    return write


def test_a_target_is_the_median_of_what_a_recorded_method_ended_with(comparison):
    runs = (
        small.run("sgd", 0, [2, 1]),
        small.run("sgd", 1, [2, 0.5]),
        small.run("sgd", 2, [2, 0.1], status="diverged"),
    )
    found = target_from(problems.get("digits-mlp"), comparison(*runs))
    assert (found.metric, found.threshold) == ("train_loss", 1)
    assert "the median over 3 re-runs of the best tuned first-order method, sgd, of what it has reached" in found.origin


def test_targets_from_unfinished_or_other_records_are_refused(comparison):
    folder = comparison(small.run("sgd", 0, [2, 1]))
    with pytest.raises(ValueError, match="is not finished: a run in it has no end"):
        target_from(problems.get("digits-mlp"), folder)
    with pytest.raises(ValueError, match="A target for digits-cnn comes from a record of one method on it, not of sgd"):
        target_from(problems.get("digits-cnn"), folder)
    with pytest.raises(ValueError, match="not of curveball, sgd on digits-mlp"):
        target_from(problems.get("digits-mlp"), comparison(names=("curveball", "sgd")))


def test_a_target_that_most_runs_missed_is_refused(comparison):
    runs = [small.run("sgd", seed, [2, 1], status="diverged") for seed in range(3)]
    with pytest.raises(ValueError, match="Most runs of sgd diverged, so there is no target"):
        target_from(problems.get("digits-mlp"), comparison(*runs))
