"""`--scale`: problems of two sizes, whose records never mix; and explicit settings, on made-up images."""

import pytest

from quadric.bench.records import read


def compare(images, out, *more, optimizers="curveball,momentum:lr=0.1:nesterov=true"):
    base = ["compare", "--problem", "cifar10-cnn-bn", "--optimizers", optimizers, "--epochs", 1, "--seeds", 1]
    return [*base, "--data-dir", images, "--out", out, *more]


def test_scales_are_recorded_said_and_never_mixed(quadric, images, tmp_path):
    status, output, _ = quadric(*compare(images, tmp_path / "run"))
    assert status == 0
    text = " ".join(output.split())
    assert "cifar10-cnn-bn, small scale: 1 epoch, 1 seed" in text
    assert "not the published files" in text
    header = read(tmp_path / "run" / "records.jsonl").header
    assert (header.problem["scale"], header.problem["size"]) == ("small", "2,000 images, 10 epochs")
    assert header.optimizers[1]["hyper"] == {"lr": 0.1, "nesterov": True}
    status, _, error = quadric(*compare(images, tmp_path / "run", "--resume", "--scale", "full"))
    assert status == 1
    assert "scale was small and is full" in error
    assert quadric(*compare(images, tmp_path / "run", "--resume"))[0] == 0
    assert "lr 0.1, nesterov 1" in (tmp_path / "run" / "report.html").read_text()


def test_workers_run_the_scale_that_was_asked_for(quadric, images, tmp_path):
    status, _, error = quadric(*compare(images, tmp_path, "--scale", "full", "--workers", 2, optimizers="curveball"))
    assert (status, error) == (0, "")
    assert read(tmp_path / "records.jsonl").runs[0].end.steps == 1


@pytest.mark.parametrize(
    ("optimizers", "message"),
    [
        ("curveball,sgd", "No learning rate was searched for sgd on cifar10-cnn-bn/small"),
        ("sgd:speed=1", "Unknown hyper-parameter of sgd 'speed'"),
        ("sdg:lr=1", "Unknown optimiser 'sdg'"),
    ],
)
def test_settings_that_are_missing_or_wrong_are_bad_usage(quadric, images, tmp_path, optimizers, message):
    status, _, error = quadric(*compare(images, tmp_path / "run", optimizers=optimizers))
    assert status == 2
    assert message in error
    assert not (tmp_path / "run").exists()


def test_a_search_knows_its_scale(quadric, images, tmp_path):
    pytest.importorskip("optuna")
    base = ["tune", "--problem", "cifar10-cnn-bn", "--optimizer", "sgd", "--space", "lr=0.1|0.01", "--trials", 1]
    status, output, error = quadric(
        *base, "--scale", "full", "--epochs", 1, "--seeds", 1, "--data-dir", images, "--out", tmp_path / "run"
    )
    assert (status, error) == (0, "")
    assert "cifar10-cnn-bn/full" in output


def test_list_shows_the_scales(quadric):
    _, output, _ = quadric("list")
    assert "--scale small: 2,000 images, 10 epochs; full: 50,000 images, 40 epochs" in output
