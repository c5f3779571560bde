"""`quadric tune`: what it finds, prints, keeps and refuses."""

import json

import pytest

from quadric.bench.search import study
from quadric.report.directory import STUDY

LR = "lr=log:1e-3:1"


@pytest.fixture
def tune(quadric, tmp_path):
    def call(*more, out=tmp_path / "out", problem="digits-mlp", optimizer="sgd", space=LR):
        what = ("--problem", problem, "--optimizer", optimizer, "--out", out)
        more = more if space is None else ("--space", space, *more)
        status, output, error = quadric("tune", *what, *more)
        return status, " ".join(output.split()), error

    return call


def lines(path):
    return [json.loads(line) for line in (path / "records.jsonl").read_text().splitlines()]


def test_search_report_and_more_trials(tune, quadric, tmp_path):
    options = "--epochs", 1, "--folds", 2
    status, output, _ = tune(*options, "--trials", 4)
    assert status == 0
    assert "Best: loss" in output
    assert "standard error over 2 runs" in output
    assert 'Use it: quadric.optim.create("sgd", objective, lr=0.' in output
    assert output.endswith(f"report: {tmp_path / 'out' / 'report.html'}")
    assert [line["kind"] for line in lines(tmp_path / "out")] == ["tuning", *["trial"] * 4, "importance"]

    status, output, _ = tune(*options, "--trials", 6)
    assert "sgd on digits-mlp: 6 trials" in output
    assert [line["number"] for line in lines(tmp_path / "out") if line["kind"] == "trial"] == list(range(6))

    figure = tmp_path / "out" / "figures" / "tuning.png"
    before = figure.read_bytes()
    figure.unlink()
    status, output, _ = quadric("report", tmp_path / "out")
    assert status == 0
    assert figure.read_bytes() == before

    status, _, error = tune("--epochs", 2, "--folds", 2)
    assert status == 1
    assert "out holds another search: epochs was 1 and is 2" in error
    assert tune("--epochs", 2, "--trials", 1, "--overwrite")[0] == 0
    assert len(lines(tmp_path / "out")) == 2


def test_a_search_is_not_mixed_without_saying_so(tune, tmp_path):
    options = "--epochs", 1, "--holdout", 0.2, "--seeds", 1
    assert tune(*options, "--trials", 1)[0] == 0
    path = tmp_path / "out" / "records.jsonl"
    path.write_text(path.read_text().replace('"threads": "1"', '"threads": "5"', 1))
    before = path.read_text()
    assert tune(*options, "--trials", 1)[0] == 0  # nothing is left to do, and so to mix
    status, _, error = tune(*options, "--trials", 2)
    assert status == 1
    assert "threads was 5 and is 1" in error
    assert "add --mix" in error
    assert path.read_text() == before
    status, output, _ = tune(*options, "--trials", 2, "--mix")
    assert status == 0
    assert "Mixed: from" in output
    assert "threads was 5 and is 1" in output
    assert tune(*options, "--trials", 3)[0] == 0
    assert [line["kind"] for line in lines(tmp_path / "out")].count("moved") == 1


def test_runs_of_a_few_seconds(tune, tmp_path):
    status, output, _ = tune("--seconds", 0.05, "--trials", 2, "--holdout", 0, "--seeds", 1)
    assert status == 0
    assert "Judged by train loss" in output
    search = lines(tmp_path / "out")[0]["search"]
    assert (search["epochs"], search["seconds"]) == (None, 0.05)
    assert tune("--seconds", 0.06, "--trials", 2, "--holdout", 0, "--seeds", 1)[0] == 1


def test_a_grid_over_choices(tune, tmp_path):
    more = "--search", "grid", "--points", 2, "--epochs", 5, "--trials", 9
    status, output, _ = tune(*more, problem="linear-regression", space="lr=0.1:0.5,nesterov=false,momentum=0|0.9")
    assert status == 0
    assert "Judged by train loss" in output
    assert "4 trials" in output


def test_machines_share_a_study(tune, tmp_path):
    shared = ("--epochs", 1, "--study", f"sqlite:///{tmp_path / 'study.db'}")
    assert tune(*shared, "--trials", 2)[0] == 0
    status, output, _ = tune(*shared, "--trials", 3, "--seed", 1, out=tmp_path / "other")
    assert status == 0
    assert "3 trials" in output
    assert not (tmp_path / "other" / STUDY).exists()
    status, _, error = tune(*shared, "--trials", 3, out=tmp_path / "third", optimizer="adam")
    assert status == 1
    assert "optimiser was sgd and is adam" in error
    assert not (tmp_path / "third").exists()
    status, _, error = tune("--epochs", 1, "--trials", 3)
    assert status == 1
    assert "holds trials that the study does not have" in error


def test_ctrl_c_keeps_what_there_is(tune, tmp_path, monkeypatch):
    plain, count = study.evaluate, []

    def interrupted(*arguments):
        count.append(1)
        if len(count) == 3:
            raise KeyboardInterrupt
        return plain(*arguments)

    monkeypatch.setattr(study, "evaluate", interrupted)
    status, output, error = tune("--epochs", 1, "--trials", 4)
    assert status == 1
    assert "sgd on digits-mlp: 2 trials" in output
    assert "interrupted; the report has what was done until then, and the same command goes on" in error
    status, output, _ = tune("--epochs", 1, "--trials", 4)
    assert status == 0
    assert "4 trials" in output


def test_nothing_finished(tune, monkeypatch):
    outcome = study.Outcome("diverged", "", 0.0)
    monkeypatch.setattr(study, "evaluate", lambda *_: outcome)
    status, _, error = tune("--epochs", 1, "--trials", 2)
    assert status == 1
    assert "no trial finished" in error


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"space": ""}, "has nothing to search"),
        ({"space": "lr=log:0:1"}, "a logarithmic range needs positive ends"),
        ({"space": "momentun=0:1"}, "Did you mean 'momentum'"),
        ({"space": "lr=-1:1"}, "Invalid learning rate: -1.0"),
        ({"optimizer": "newton", "space": "structure=full|diagonl"}, "diagonl"),
        ({"optimizer": "sdg"}, "Did you mean 'sgd'"),
        ({"problem": "digit-mlp"}, "Did you mean 'digits-mlp'"),
        ({"more": ("--folds", 2, "--holdout", 0.5)}, "exclude each other"),
        ({"more": ("--folds", 2000)}, "There are 2000 folds and 1437 training example(s): use at most 1437 folds"),
        ({"problem": "rosenbrock", "more": ("--folds", 2)}, "use none, and the train loss judges"),
        ({"more": ("--holdout", 1.5)}, "Expected a share from 0 to below 1, got 1.5"),
        ({"more": ("--budget", -1)}, "Expected seconds above 0"),
        ({"more": ("--budget", 1e-6)}, "raise the budget, or lower --epochs, --folds or --seeds"),
        ({"problem": "rosenbrock", "more": ("--metric", "error")}, "no notion of an error"),
        ({"more": ("--device", "nowhere")}, "'nowhere' cannot be used here"),
        ({"space": None}, "Name an --optimizer and its --space, or let --auto try methods"),
        ({"more": ("--seconds", 0)}, "Expected seconds above 0, got 0"),
    ],
)
def test_bad_usage(tune, tmp_path, options, reason):
    options = dict(options)
    more = options.pop("more", ())
    status, _, error = tune(*more, **options)
    assert status == 2
    assert reason in error
    assert not (tmp_path / "out").exists()


def test_missing_data(tune, tmp_path, monkeypatch):
    monkeypatch.setenv("QUADRIC_DATA", str(tmp_path / "nowhere"))
    status, _, error = tune(problem="mnist-mlp")
    assert status == 1
    assert "does not exist" in error
    assert not (tmp_path / "out").exists()


def test_missing_optuna(tune, tmp_path, monkeypatch):
    monkeypatch.setattr(study, "find_spec", lambda name: None)
    status, _, error = tune()
    assert status == 1
    assert "quadric tune needs optuna; install it with: pip install 'quadric[tune]'" in error


def test_a_directory_with_something_else(tune, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "report.html").write_text("mine")
    status, _, error = tune()
    assert status == 1
    assert "holds report.html but no record file of quadric" in error


def test_help_has_examples(quadric):
    status, output, _ = quadric("tune", "--help")
    assert status == 0
    assert "Examples" in output
    assert "--folds 5" in " ".join(output.split())
