"""The command line: what it prints, its exit status, and that nothing is lost."""

import json
import signal
import subprocess
import sys
import time

import pytest

from quadric import optim, problems
from quadric.bench import records, runner
from quadric.bench.records import read
from quadric.cli import app
from quadric.problems.planes import PLANES


def compare(out, *more, optimizers="curveball,sgd", epochs=2, seeds=2):
    base = ["compare", "--problem", "digits-mlp", "--optimizers", optimizers, "--epochs", epochs, "--seeds", seeds]
    return [*base, "--out", out, *more]


def test_compare_writes_records_figures_and_report_and_prints_its_path_last(quadric, tmp_path):
    status, output, _ = quadric(*compare(tmp_path / "run"))
    assert status == 0
    assert output.splitlines()[-1] == f"report: {tmp_path / 'run' / 'report.html'}"
    for text in ("curveball", "sgd", "seconds to", "Final test error:", "Median over seeds"):
        assert text in output
    record = read(tmp_path / "run" / "records.jsonl")
    assert [run.status for run in record.runs] == ["finished"] * 4
    assert record.header.epochs == 2
    assert record.header.environment["threads"] == "1"
    assert (tmp_path / "run" / "figures" / "quantities.png").exists()


def test_report_redraws_and_prints_the_same_table(quadric, tmp_path):
    _, compared, _ = quadric(*compare(tmp_path, seeds=1))
    before = (tmp_path / "report.html").read_bytes()
    (tmp_path / "report.html").unlink()
    status, output, _ = quadric("report", tmp_path)
    assert status == 0
    assert compared.endswith(output)
    assert (tmp_path / "report.html").read_bytes() == before


def test_list_shows_every_problem_optimiser_and_function(quadric):
    status, output, _ = quadric("list")
    assert status == 0
    lines, names = output.splitlines(), [*problems.names(), *optim.names(), *PLANES]
    for name in names:
        assert any(line.split()[:1] == [name] for line in lines)
    assert len([line for line in lines if line.strip()]) == len(names) + 3 + sum(
        bool(problems.get(name).scales) for name in problems.names()
    )


@pytest.mark.parametrize("command", [[], ["compare"], ["inspect"], ["report"], ["list"]])
def test_every_command_has_help_with_examples(quadric, command):
    status, output, _ = quadric(*command, "--help")
    assert status == 0
    assert not command or f"quadric {command[0]}" in output
    assert not command or "Example" in output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--problem", "digits-mpl"], "--problem: Unknown problem 'digits-mpl'. Did you mean 'digits-mlp'"),
        (["--optimizers", "sgd,curvebal"], "'curvebal'. Did you mean 'curveball'"),
        (["--optimizers", "sgd,sgd"], "--optimizers: Expected different names, got 'sgd,sgd'"),
        (["--optimizers", ""], "--optimizers: Expected different names, got ''"),
        (["--seeds", "0"], "Invalid value for '--seeds'"),
        (["--epochs", "-1"], "Invalid value for '--epochs'"),
        (["--device", "toaster"], "--device: 'toaster' cannot be used here"),
    ],
)
def test_bad_usage_exits_with_2_and_writes_nothing(quadric, tmp_path, arguments, message):
    status, _, error = quadric(*compare(tmp_path / "run", *arguments))
    assert status == 2
    assert message in error
    assert not (tmp_path / "run").exists()


def test_errors_of_the_operating_system_have_no_numbers(quadric, monkeypatch, tmp_path):
    def full(*arguments):
        raise OSError(28, "No space left on device", "records.jsonl")

    monkeypatch.setattr("quadric.bench.records.write_atomically", full)
    status, _, error = quadric(*compare(tmp_path / "run", epochs=1, seeds=1))
    assert status == 1
    assert error == "error: records.jsonl: No space left on device"


def test_a_directory_with_another_run_is_refused_and_overwritten_on_request(quadric, tmp_path):
    quadric(*compare(tmp_path, epochs=1, seeds=1))
    before = (tmp_path / "records.jsonl").read_bytes()
    status, _, error = quadric(*compare(tmp_path, epochs=2, seeds=1))
    assert status == 1
    assert error == f"error: {tmp_path} holds another run. Name another directory, or add --overwrite."
    assert (tmp_path / "records.jsonl").read_bytes() == before
    status, _, _ = quadric(*compare(tmp_path, "--overwrite", epochs=2, seeds=1))
    assert status == 0
    assert read(tmp_path / "records.jsonl").header.epochs == 2


def test_missing_data_is_one_line_and_an_earlier_run_survives(quadric, tmp_path, monkeypatch):
    quadric(*compare(tmp_path / "run", epochs=1, seeds=1))
    before = (tmp_path / "run" / "records.jsonl").read_bytes()
    arguments = compare(tmp_path / "run", "--overwrite", "--data-dir", tmp_path / "nowhere")
    arguments[arguments.index("digits-mlp")] = "mnist-mlp"
    status, _, error = quadric(*arguments)
    assert status == 1
    assert "(from --data-dir) does not exist" in error
    assert (tmp_path / "run" / "records.jsonl").read_bytes() == before


def test_report_of_a_directory_without_records_fails_in_one_line(quadric, tmp_path):
    status, _, error = quadric("report", tmp_path)
    assert status == 1
    assert error.startswith(f"error: {tmp_path} holds no records.jsonl")


def test_report_of_a_truncated_record_says_which_line_is_cut(quadric, tmp_path):
    quadric(*compare(tmp_path, epochs=1, seeds=1))
    path = tmp_path / "records.jsonl"
    path.write_text(path.read_text()[:-9])
    status, output, _ = quadric("report", tmp_path)
    assert status == 0
    assert "The record is damaged: line" in output


def test_a_missing_extra_is_one_line(quadric, monkeypatch):
    monkeypatch.setattr(app, "find_spec", lambda name: None if name in ("rich", "pooch") else object())
    status, _, error = quadric("list")
    assert status == 1
    assert error == "error: the quadric command needs rich, pooch; install them with: pip install 'quadric[bench]'"


def test_an_interrupt_keeps_and_reports_what_was_done(quadric, tmp_path, monkeypatch):
    step = runner.Training.step

    def interrupted(self, batches):
        if self.seed == 1 and self.steps == 5:
            raise KeyboardInterrupt
        return step(self, batches)

    monkeypatch.setattr(runner.Training, "step", interrupted)
    status, output, error = quadric(*compare(tmp_path))
    assert status == 1
    assert error.startswith("error: interrupted; the report has what was done until then")
    assert f"report: {tmp_path / 'report.html'}" in output
    statuses = {(run.optimizer, run.seed): run.status for run in read(tmp_path / "records.jsonl").runs}
    assert statuses[("sgd", 0)] == "finished"
    assert statuses[("sgd", 1)] == "interrupted"


def test_an_interrupt_before_the_first_step_is_one_line(quadric, tmp_path, monkeypatch):
    def interrupted(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(runner, "warm_up", interrupted)
    status, _, error = quadric(*compare(tmp_path / "run"))
    assert status == 1
    assert error == "error: interrupted."
    assert not (tmp_path / "run").exists()


def test_a_real_interrupt_signal_does_the_same(tmp_path):
    arguments = map(str, compare(tmp_path, epochs=100_000))
    command = [sys.executable, "-c", "from quadric.cli.app import main; main()", *arguments]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    path, deadline = tmp_path / "records.jsonl", time.monotonic() + 60
    while not (path.exists() and len(path.read_text().splitlines()) > 20):
        assert time.monotonic() < deadline, "no records were written"
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    output, error = process.communicate(timeout=60)
    assert process.returncode == 1
    assert error.startswith("error: interrupted")
    assert "Traceback" not in output + error
    assert output.splitlines()[-1].startswith("report: ")
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert records.KINDS.keys() >= {line["kind"] for line in lines[1:]}
