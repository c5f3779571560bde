"""benchmarks/study.py: what it runs, that it goes on where it was, and that its page comes of the records."""

import dataclasses
import importlib
import os
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import pytest

from quadric.bench.journal import Journal
from quadric.bench.search.records import LAYOUT, Trial
from quadric.bench.search.space import Range, parse

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
SHORT = ("--problems", "digits-mlp", "--methods", "momentum,kfac", "--trials", "2", "--seconds", "3", "--seeds", "1")


def run(name, *arguments, check=True):
    environment = {**os.environ, "MPLBACKEND": "Agg", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, BENCHMARKS / f"{name}.py", *map(str, arguments)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=check)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--methods", "kfac"), "name momentum or adamw, too"),
        (("--methods", "momentum,sdg"), "expected methods among momentum"),
        (("--problems", "digit-mlp"), "digits-mlp"),
        (("--trials", "0"), "expected trials, seeds and workers of 1 or more"),
    ],
)
def test_bad_input_is_refused_before_any_work(arguments, message, tmp_path):
    done = run("study", *arguments, "--out", tmp_path / "study", check=False)
    assert done.returncode == 2
    assert message in done.stderr
    assert not (tmp_path / "study").exists()


def test_a_page_needs_records(tmp_path):
    done = run("study_page", "--records", tmp_path, "--docs", tmp_path, check=False)
    assert "`make study` makes them" in done.stderr


@pytest.fixture
def study(tmp_path, monkeypatch):
    """The module, and a study of digits-mlp whose commands are kept in the place of being run."""
    monkeypatch.syspath_prepend(BENCHMARKS)
    module = importlib.import_module("study")
    commands = []
    monkeypatch.setattr(module, "together", lambda given, workers, lock: commands.extend(given))
    return module, module.parse([*SHORT, "--workers", "2", "--out", str(tmp_path / "study")]), commands


def searched(study, losses):
    """Records of searches as they are when both trials of each method are done; `None` for those that diverged."""
    module, chosen, _ = study
    for name, loss in losses.items():
        folder = chosen.out / "digits-mlp" / "tune" / name
        folder.mkdir(parents=True)
        with Journal(folder / module.FILE_NAME, LAYOUT, {}) as lines:
            for number in range(2):
                scores = [] if loss is None else [loss]
                lines.write("trial", asdict(Trial(number, {}, "finished", "", 1.0, scores)))


def test_two_methods_that_both_miss_are_no_tie(monkeypatch):
    monkeypatch.syspath_prepend(BENCHMARKS)
    judged = importlib.import_module("study_page").judged
    missed = [float("inf")] * 3
    assert judged(missed, "sgd", missed).below == "both missed"
    assert judged([1.0, 1.1, 1.2], "sgd", missed).main == "won"
    assert judged(missed, "sgd", [1.0, 1.1, 1.2]).below == "missed"


def test_every_method_has_as_many_trials_in_as_large_a_space(study):
    module = study[0]
    spaces = [[each for each in parse(text) if isinstance(each, Range)] for text in module.TUNED.values()]
    assert [len(ranges) for ranges in spaces] == [2] * len(spaces)
    assert all(first.high / first.low == pytest.approx(1e4) for first, _ in spaces)


def test_a_search_that_left_no_record_has_failed(study):
    with pytest.raises(SystemExit, match=r"These searches failed: .*digits-mlp/tune/momentum, .*digits-mlp/tune/kfac"):
        study[1].carry_out()
    assert [(command[0], command[4]) for command in study[2]] == [("tune", "momentum"), ("tune", "kfac")]


def test_a_method_whose_trials_all_diverged_is_left_out_of_the_comparison(study, monkeypatch):
    searched(study, {"momentum": 0.1, "kfac": None})
    monkeypatch.setattr(study[0], "ended", lambda folder: 0)
    with pytest.raises(SystemExit, match=r"The part .*target failed"):
        study[1].carry_out()
    monkeypatch.setattr(study[0], "ended", lambda folder: 6 if folder.name == "target" else 0)
    with pytest.raises(SystemExit, match=r"The part .*compare failed"):
        study[1].carry_out()
    assert [command[4] for command in study[2]] == ["momentum", "kfac,momentum"]


def test_on_some_problems_nothing_is_searched(study):
    chosen = dataclasses.replace(study[1], problems=["width-depth-16x2"])
    with pytest.raises(SystemExit, match=r"The part .*width-depth-16x2/compare failed"):
        chosen.carry_out()
    ((name, *words),) = study[2]
    assert (name, words[3]) == ("compare", "curveball,kfac,momentum,adam")
    assert "--searches" not in words
    module = study[0]
    assert chosen.minutes == pytest.approx((module.OVERHEAD * 2 * 4 * 0.6 + module.START) / 60)


def test_parts_of_another_length_are_another_studys(study):
    chosen = study[1]
    chosen.out.mkdir(parents=True)
    chosen.settle()
    chosen.settle()
    longer = dataclasses.replace(chosen, seconds=30.0, trials=3)
    with pytest.raises(SystemExit, match=r"another study: seconds was 3\.0 and is 30\.0; trials was 2 and is 3"):
        longer.settle()


def test_two_studies_do_not_write_to_one_place(study):
    module, chosen, _ = study
    lock = module.locked(chosen.out)
    with pytest.raises(SystemExit, match="is in use: another study, or a part of one that was killed, still runs"):
        chosen.carry_out()
    lock.close()
    module.locked(chosen.out).close()


def test_the_minutes_of_a_study(study):
    module, chosen, _ = study
    runs = 2 + 0.75 * 3 + 3  # two searches at once, three rounds of six seeds, a round of one
    assert chosen.length("digits-mlp") == pytest.approx(0.3)
    assert chosen.minutes == pytest.approx((module.OVERHEAD * runs * 0.3 + 3 * module.START) / 60)


@pytest.mark.slow
def test_damping_by_itself_is_on_the_page(tmp_path):
    out, docs = tmp_path / "study", tmp_path / "docs"
    docs.mkdir()
    problems = "vanishing-tanh,width-depth-16x2"
    run("study", "--problems", problems, "--methods", "momentum,kfac", *SHORT[4:], "--out", out)
    run("study_page", out, "--records", tmp_path / "kept", "--docs", docs)
    page = (docs / "study.md").read_text()
    assert "by themselves on vanishing-tanh" in page
    assert "| width-depth-16x2 | train loss ≤ 0.0236634 | 0.6 s |" in page
    assert "| kfac | damping=log:1e-06:1.0 |" in page
    assert (docs / "study" / "vanishing-tanh-alone.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.slow
def test_it_goes_on_and_the_page_comes_of_the_records(tmp_path):
    out, kept, docs = tmp_path / "study", tmp_path / "kept", tmp_path / "docs"
    first = run("study", *SHORT, "--out", out)
    assert first.stdout.count("quadric tune") == 2
    assert first.stdout.count("quadric compare") == 2
    again = run("study", *SHORT, "--out", out)
    assert "quadric tune" not in again.stdout
    assert "quadric compare" not in again.stdout
    more = run("study", *SHORT[:-1], "2", "--out", out)
    assert more.stdout.count("quadric compare") == 1

    run("study_page", out, "--records", kept, "--docs", docs)
    page = (docs / "study.md").read_text()
    pictures = {path.read_bytes() for path in (docs / "study").iterdir()}
    assert "seed 1" in page
    assert "kfac (self-tuning)" in page
    run("study_page", "--records", kept, "--docs", docs)
    assert (docs / "study.md").read_text() == page
    assert {path.read_bytes() for path in (docs / "study").iterdir()} == pictures
