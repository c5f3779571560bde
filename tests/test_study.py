"""benchmarks/study.py: what it runs, that it goes on where it was, and that its page comes of the records."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
SHORT = ("--problems", "digits-mlp", "--methods", "momentum,kfac", "--trials", "2", "--seconds", "0.3", "--seeds", "1")


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
