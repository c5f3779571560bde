"""`quadric tune --auto`: what it recommends, how it goes on, and what it refuses; on the user's own code, too."""

import json

import pytest

from quadric.bench.search import halving, study

METHODS = ("--optimizer", "momentum,adamw,curveball", "--seconds", 0.05)
TRAIN = """
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


def make_model():
    return nn.Sequential(nn.Linear(5, 8), nn.Tanh(), nn.Linear(8, 3))


ready = make_model()


def make_loader():
    x = torch.randn(90, 5, generator=torch.Generator().manual_seed(0))
    return DataLoader(TensorDataset(x, x[:, :3].argmax(1)), batch_size=30, shuffle=True)


def dictionaries():
    return [{"inputs": torch.zeros(2, 5), "labels": torch.zeros(2)}]


def nothing():
    return []
"""


@pytest.fixture
def auto(quadric, tmp_path):
    def call(*more, problem="digits-mlp"):
        named = () if problem is None else ("--problem", problem)
        status, output, error = quadric("tune", "--auto", *named, "--out", tmp_path / "out", *more)
        return status, " ".join(output.split()), error

    return call


@pytest.fixture
def train(tmp_path, monkeypatch):
    (tmp_path / "own_training.py").write_text(TRAIN)
    monkeypatch.syspath_prepend(tmp_path)
    return "--model", "own_training:make_model", "--loss", "cross_entropy", "--data", "own_training:make_loader"


def lines(path):
    return [json.loads(line) for line in (path / "out" / "records.jsonl").read_text().splitlines()]


def test_a_method_is_recommended_and_how_sure_that_is(auto, quadric, tmp_path):
    status, output, _ = auto(*METHODS, "--trials", 12, "--seeds", 2)
    assert status == 0
    assert "Methods for digits-mlp: 12 runs of 0.05 s" in output
    assert "3 methods × 2; then 3 finalists with the best setting and 2 seeds that the search has not seen" in output
    assert "Recommended: " in output
    assert 'Use it: quadric.optim.create("' in output
    found = lines(tmp_path)
    assert [line["kind"] for line in found] == ["auto", *["attempt"] * 12]
    firsts = {line["method"]: line["hyper"] for line in found[1:] if line["number"] == 0}
    assert firsts == {"momentum": {"lr": 0.01}, "adamw": {"lr": 0.001}, "curveball": {"damping": None}}
    assert {line["number"] for line in found[1:] if line["stage"] == "final"} == {1002, 1003}

    figure = tmp_path / "out" / "figures" / "tuning.png"
    before = figure.read_bytes()
    figure.unlink()
    assert quadric("report", tmp_path / "out")[0] == 0
    assert figure.read_bytes() == before

    assert auto(*METHODS, "--trials", 12, "--seeds", 2)[0] == 0
    assert len(lines(tmp_path)) == 13
    status, _, error = auto(*METHODS, "--trials", 15, "--seeds", 2)
    assert status == 1
    assert "holds another search: budget was 12 runs and is 15 runs" in error
    path = tmp_path / "out" / "records.jsonl"
    kept = path.read_text().replace('"threads": "1"', '"threads": "5"', 1).splitlines(keepends=True)[:-1]
    path.write_text("".join(kept))
    status, _, error = auto(*METHODS, "--trials", 12, "--seeds", 2)
    assert status == 1
    assert "threads was 5 and is 1" in error
    status, output, _ = auto(*METHODS, "--trials", 12, "--seeds", 2, "--mix")
    assert status == 0
    assert "Mixed: from" in output


@pytest.mark.parametrize(("module", "at", "left"), [(study, 4, 3), (halving, 3, 8)])
def test_it_goes_on_after_ctrl_c(auto, tmp_path, monkeypatch, module, at, left):
    plain, count = module.evaluate, []

    def interrupted(*arguments):
        count.append(1)
        if len(count) == at:
            raise KeyboardInterrupt
        return plain(*arguments)

    monkeypatch.setattr(module, "evaluate", interrupted)
    status, _, error = auto(*METHODS, "--trials", 12, "--seeds", 2)
    assert status == 1
    assert "the same command goes on" in error
    assert len(lines(tmp_path)) - 1 == left
    monkeypatch.setattr(module, "evaluate", plain)
    status, _, _ = auto(*METHODS, "--trials", 12, "--seeds", 2)
    assert status == 0
    attempts = [(line["method"], line["stage"], line["number"]) for line in lines(tmp_path)[1:]]
    assert len(set(attempts)) == len(attempts) == 12


def test_a_method_that_does_not_take_the_model_is_left_out(auto, monkeypatch):
    from quadric.bench.search import trials

    plain = trials.estimate

    def refusing(task, hyper):
        if task.method == "adamw":
            raise ValueError("it cannot be")
        return plain(task, hyper)

    monkeypatch.setattr(trials, "estimate", refusing)
    status, output, _ = auto(*METHODS, "--trials", 10, "--seeds", 2)
    assert status == 0
    assert "Left out: adamw, it cannot be" in output


def test_ones_own_model_loss_and_data(auto, train, tmp_path):
    status, output, _ = auto(*train, *METHODS, "--trials", 9, "--seeds", 2, problem=None)
    assert status == 0
    assert "Methods for own_training:make_model: 9 runs" in output
    assert "Judged by 20% of the training examples, held out" in output


def test_ones_own_with_a_space(quadric, train, tmp_path):
    what = ("--optimizer", "sgd", "--space", "lr=log:1e-3:1", "--epochs", 2, "--trials", 2, "--metric", "error")
    status, output, _ = quadric("tune", *train, *what, "--out", tmp_path / "out")
    assert status == 0
    assert "sgd on own_training:make_model: 2 trials" in output


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (("--trials", 12), "--auto compares methods at equal time"),
        ((*METHODS, "--trials", 4), "A try of each of 3 methods and 5 repeats of 3 finalists take 18 runs"),
        ((*METHODS, "--budget", 0.1), "raise --budget, lower --seconds or --seeds, or name fewer methods"),
        (("--optimizer", "momentun", "--seconds", 1), "Did you mean 'momentum'"),
        ((*METHODS, "--space", "lr=0:1"), "--space does not go with --auto"),
        ((*METHODS, "--folds", 3), "--folds does not go with --auto"),
        ((*METHODS, "--search", "grid"), "--search does not go with --auto"),
        ((*METHODS, "--model", "train:make"), "--problem names a model, loss and data of its own"),
    ],
)
def test_bad_usage(auto, tmp_path, options, reason):
    status, _, error = auto(*options)
    assert status == 2
    assert reason in error
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"--data": None}, "or your own by --model, --loss and --data"),
        ({"--model": "own_training:ready"}, "to be a function that makes a new model"),
        ({"--model": "own_training:make_modl"}, "Did you mean make_model"),
        ({"--loss": "crossentropy"}, "Did you mean 'cross_entropy'"),
        ({"--data": "own_training:dictionaries"}, "(inputs, targets) of two tensors, got dict"),
        ({"--data": "own_training:nothing"}, "yields no batch"),
        ({"--seconds": None}, "Say how long a run of your own problem is"),
    ],
)
def test_bad_code_of_ones_own(quadric, train, tmp_path, changes, reason):
    options = dict(zip(train[::2], train[1::2], strict=True)) | {"--seconds": "1"} | changes
    given = [word for name, value in options.items() if value is not None for word in (name, value)]
    status, _, error = quadric("tune", "--auto", *given, "--out", tmp_path / "out")
    assert status == 2
    assert reason in error
    assert not (tmp_path / "out").exists()
