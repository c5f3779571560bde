"""A comparison that is stopped loses nothing, goes on to the same curves, and never mixes without saying so."""

import json
import multiprocessing
import re
import resource
import signal
import subprocess
import sys
import time

import pytest

from cli.test_cli import compare
from quadric.bench.records import Recorder, read
from quadric.bench.runner import Training


def curves(directory):
    """Everything recorded of every run, without the seconds, bit for bit."""
    return {
        (run.optimizer, run.seed): (
            [(e.step, e.train_loss, e.train_error, e.test_loss, e.test_error, e.passes) for e in run.evaluations],
            run.reached and (run.reached.step, run.reached.passes),
            run.end and (run.end.status, run.end.reason, run.end.steps, run.end.passes),
        )
        for run in read(directory / "records.jsonl").runs
    }


@pytest.fixture
def whole(quadric, tmp_path):
    """An uninterrupted comparison."""
    assert quadric(*compare(tmp_path / "whole", optimizers="curveball,kfac,sgd"))[0] == 0
    return curves(tmp_path / "whole")


def begin(directory, *more):
    command = [sys.executable, "-c", "from quadric.cli.app import main; main()"]
    arguments = map(str, compare(directory, *more, optimizers="curveball,kfac,sgd"))
    return subprocess.Popen([*command, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def wait_for(path, lines, process):
    deadline = time.monotonic() + 60
    while not (path.exists() and path.read_bytes().count(b"\n") > lines):
        assert time.monotonic() < deadline, "no records were written"
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.01)


def test_a_rerun_and_two_workers_give_the_same_curves_bit_for_bit(quadric, tmp_path, whole):
    quadric(*compare(tmp_path / "again", optimizers="curveball,kfac,sgd"))
    assert curves(tmp_path / "again") == whole
    status, _, error = quadric(*compare(tmp_path / "two", "--workers", 2, optimizers="curveball,kfac,sgd"))
    assert (status, error) == (0, "")
    assert curves(tmp_path / "two") == whole
    environment = read(tmp_path / "two" / "records.jsonl").header.environment
    assert (environment["workers"], environment["threads"]) == ("2", "1")


@pytest.mark.parametrize("workers", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_a_killed_comparison_keeps_every_record_and_goes_on_to_the_same_curves(quadric, tmp_path, whole, workers):
    path = tmp_path / "killed" / "records.jsonl"
    process = begin(tmp_path / "killed", "--workers", workers)
    wait_for(path, 40, process)
    process.kill()
    process.communicate()
    before = path.read_bytes()
    options = ("--workers", workers, "--resume")
    status, _, error = quadric(*compare(tmp_path / "killed", *options, optimizers="curveball,kfac,sgd"))
    assert (status, error) == (0, "")
    assert path.read_bytes().startswith(before[: before.rfind(b"\n") + 1])
    assert curves(tmp_path / "killed") == whole
    after = path.read_bytes()
    quadric(*compare(tmp_path / "killed", *options, optimizers="curveball,kfac,sgd"))
    assert path.read_bytes() == after


@pytest.mark.slow
def test_ctrl_c_with_workers_ends_them_all_and_reports(tmp_path):
    process = begin(tmp_path, "--workers", 2, "--epochs", 100_000)
    wait_for(tmp_path / "records.jsonl", 20, process)
    process.send_signal(signal.SIGINT)
    output, error = process.communicate(timeout=60)  # which waits for every holder of the pipes, workers included
    assert process.returncode == 1
    assert error == "error: interrupted; the report has what was done until then, and --resume goes on.\n"
    assert output.splitlines()[-1].startswith("report: ")


def test_ctrl_c_then_resume_gives_the_same_curves(quadric, tmp_path, whole, monkeypatch):
    step = Training.step

    def interrupted(self, batches):
        if (self.name, self.seed, self.steps) == ("kfac", 1, 5):
            raise KeyboardInterrupt
        return step(self, batches)

    with monkeypatch.context() as patch:
        patch.setattr(Training, "step", interrupted)
        assert quadric(*compare(tmp_path / "run", optimizers="curveball,kfac,sgd"))[0] == 1
    status, _, _ = quadric(*compare(tmp_path / "run", "--resume", optimizers="curveball,kfac,sgd"))
    assert status == 0
    assert curves(tmp_path / "run") == whole


def test_more_seeds_can_be_added_and_the_first_ones_stay(quadric, tmp_path):
    quadric(*compare(tmp_path, epochs=1, seeds=1))
    before = (tmp_path / "records.jsonl").read_bytes()
    status, output, _ = quadric(*compare(tmp_path, "--resume", epochs=1, seeds=2))
    assert status == 0
    assert (tmp_path / "records.jsonl").read_bytes().startswith(before)
    assert "1 epoch, 2 seeds" in output
    assert {run.status for run in read(tmp_path / "records.jsonl").runs} == {"finished"}


@pytest.mark.parametrize(("name", "value"), [("code", "000000000000"), ("processor", "another"), ("data", "fff")])
def test_other_code_data_or_hardware_is_refused_unless_mixing_is_asked_for(quadric, tmp_path, name, value):
    quadric(*compare(tmp_path, epochs=1, seeds=1))
    path = tmp_path / "records.jsonl"
    first, rest = path.read_text().split("\n", 1)
    values = json.loads(first)
    values["environment"][name] = value
    path.write_text(json.dumps(values) + "\n" + rest)
    before = path.read_bytes()
    status, _, error = quadric(*compare(tmp_path, "--resume", epochs=1, seeds=2))
    assert status == 1
    assert f"recorded elsewhere: {name} was {value} and is " in error
    assert path.read_bytes() == before
    status, output, _ = quadric(*compare(tmp_path, "--resume", "--mix", epochs=1, seeds=2))
    assert status == 0
    assert f"{name} was {value} and is " in output
    assert "Mixed: from" in (tmp_path / "report.html").read_text()


def test_settings_and_target_of_searches_and_another_record(quadric, tmp_path):
    for name, space in (("sgd", "lr=log:1e-2:1"), ("newton", "damping=log:1e-2:1,structure=diagonal")):
        what = ("--problem", "digits-mlp", "--optimizer", name, "--space", space, "--trials", 1, "--epochs", 1)
        assert quadric("tune", *what, "--out", tmp_path / "tune" / name)[0] == 0
    common = ("compare", "--problem", "digits-mlp", "--searches", tmp_path / "tune", "--resume")
    first = (
        *common,
        "--optimizers",
        "sgd",
        "--epochs",
        1,
        "--seeds",
        2,
        "--first-seed",
        5,
        "--out",
        tmp_path / "target",
    )
    assert quadric(*first)[0] == 0
    record = read(tmp_path / "target" / "records.jsonl")
    assert record.seeds == [5, 6]
    threshold = sum(run.evaluations[-1].train_loss for run in record.runs) / 2

    last = (
        *common,
        "--target-from",
        tmp_path / "target",
        "--seconds",
        0.1,
        "--seeds",
        1,
        "--out",
        tmp_path / "compare",
    )
    for _ in range(2):
        status, output, error = quadric(*last, "--optimizers", "newton@tuned,sgd")
        assert status == 0, error
    assert "digits-mlp: 0.1 s, 1 seed" in output
    record = read(tmp_path / "compare" / "records.jsonl")
    assert [look.step for look in record.runs_of("sgd")[0].evaluations[:4]] == [0, 1, 2, 3]
    header = record.header
    assert (header.epochs, header.seconds) == (None, 0.1)
    assert header.problem["target"]["threshold"] == pytest.approx(threshold, rel=1e-3)
    assert header.optimizers[0]["hyper"]["structure"] == "diagonal"
    status, _, error = quadric(*last, "--optimizers", "newton,sgd")
    assert status == 1
    assert "newton@tuned damping" in error
    assert "structure diagonal" in error
    status, _, error = quadric(*last, "--optimizers", "adam")
    assert status == 2
    assert "has no search for adam" in error


def test_another_comparison_is_not_continued(quadric, tmp_path):
    quadric(*compare(tmp_path, epochs=1, seeds=1))
    status, _, error = quadric(*compare(tmp_path, "--resume", "--mix", epochs=2, seeds=1))
    assert status == 1
    assert "holds another comparison: epochs was 1 and is 2. Give the options it was begun with" in error


def test_resume_begins_where_there_is_nothing_and_excludes_overwrite(quadric, tmp_path):
    assert quadric(*compare(tmp_path, "--resume", epochs=1, seeds=1))[0] == 0
    status, _, error = quadric(*compare(tmp_path, "--resume", "--overwrite", epochs=1, seeds=1))
    assert status == 2
    assert "--overwrite and --resume exclude each other" in error


def test_workers_with_more_than_one_thread_are_refused(quadric, tmp_path):
    status, _, error = quadric(*compare(tmp_path / "run", "--workers", 2, "--threads", 2))
    assert status == 2
    assert "Workers run on the CPU with one thread each" in error


def test_a_worker_that_vanishes_is_one_line(quadric, tmp_path, monkeypatch):
    def kill(self, event):
        for process in multiprocessing.active_children():
            process.kill()

    monkeypatch.setattr(Recorder, "write", kill)
    status, _, error = quadric(*compare(tmp_path / "run", "--workers", 2, epochs=50))
    assert status == 1
    assert re.search(r"^error: worker \d stopped with exit status -9, .*: add --resume to go on\.$", error)


def test_a_full_disk_leaves_whole_lines_and_the_comparison_goes_on_later(quadric, tmp_path, whole):
    path = tmp_path / "full" / "records.jsonl"
    limit = 20_000
    code = (
        "import resource, signal; from quadric.cli.app import main; signal.signal(signal.SIGXFSZ, signal.SIG_IGN);"
        f"resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, resource.RLIM_INFINITY)); main()"
    )
    arguments = map(str, compare(tmp_path / "full", optimizers="curveball,kfac,sgd"))
    process = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, timeout=60)
    assert process.returncode == 1
    assert process.stderr == f"error: {path}: File too large\n"
    content = path.read_bytes()
    assert content.endswith(b"\n")
    assert limit - 2000 < len(content) <= limit
    for line in content.splitlines():
        json.loads(line)
    assert [each.name for each in path.parent.iterdir()] == ["records.jsonl"]
    status, _, _ = quadric(*compare(tmp_path / "full", "--resume", optimizers="curveball,kfac,sgd"))
    assert status == 0
    assert curves(tmp_path / "full") == whole


def test_a_disk_that_is_full_from_the_start_leaves_an_earlier_run(quadric, tmp_path, monkeypatch):
    quadric(*compare(tmp_path, epochs=1, seeds=1))
    before = (tmp_path / "records.jsonl").read_bytes()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    previous = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, hard))
    try:
        status, _, error = quadric(*compare(tmp_path, "--overwrite", epochs=2, seeds=1))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, previous)
    assert status == 1
    assert "File too large" in error
    assert (tmp_path / "records.jsonl").read_bytes() == before
    assert not list(tmp_path.glob(".*partial"))


def test_several_problems_get_a_directory_each_and_profiles_that_report_redraws(quadric, tmp_path):
    arguments = compare(tmp_path, epochs=1, seeds=1)
    arguments[arguments.index("digits-mlp")] = "digits-mlp,linear-regression-no-intercept"
    status, output, _ = quadric(*arguments)
    assert status == 0
    assert output.splitlines()[-1] == f"profiles: {tmp_path / 'profile.png'}"
    before = {each.name: each.read_bytes() for each in tmp_path.glob("profile.*")}
    assert set(before) == {"profile.png", "profile.md"}
    for name in before:
        (tmp_path / name).unlink()
    (tmp_path / "digits-mlp" / "report.html").unlink()
    status, redrawn, _ = quadric("report", tmp_path)
    assert (status, redrawn.splitlines()[-1]) == (0, output.splitlines()[-1])
    assert {each.name: each.read_bytes() for each in tmp_path.glob("profile.*")} == before
    assert (tmp_path / "digits-mlp" / "report.html").exists()
