"""`quadric paper table2`, `figure2` and `figure3`: one set of runs, on made-up images."""

import pytest

from quadric.bench.paper.networks import METHODS, NETWORKS, names
from quadric.bench.records import read
from quadric.bench.runner import Training

ONE = ["--networks", "cifar10-resnet18-slim"]


@pytest.fixture
def slim(monkeypatch, images):
    """The options of a run on a network that is quick, without the warm-up and pages of its own."""
    monkeypatch.setattr("quadric.bench.runner.warm_up", lambda *_: {})
    monkeypatch.setattr("quadric.report.directory.draw_all", lambda record: {})
    monkeypatch.setitem(NETWORKS, "cifar10-resnet18-slim", "Slim")
    return [*ONE, "--epochs", 1, "--data-dir", images]


def test_one_set_of_runs_serves_table_and_figures(quadric, slim, tmp_path):
    out = tmp_path / "run"
    status, output, error = quadric("paper", "table2", *slim, "--out", out)
    assert (status, error) == (0, "")
    text = " ".join(output.split())
    for part in ("CurveBall, fixed λ", "SGD + momentum", "published", "as recalled, so approximate", "lr 0."):
        assert part in text
    for part in ("Slim: small scale (2,000 images, 10 epochs), run for 1 epoch", "not the published files"):
        assert part in text
    assert output.splitlines()[-1] == f"report: {out / 'table2.html'}"
    path = out / "cifar10-resnet18-slim" / "records.jsonl"
    before = path.read_text()
    assert [entry["name"] for entry in read(path).header.optimizers] == names("cifar10-resnet18-slim")
    for figure in ("figure2", "figure3"):
        assert quadric("paper", figure, *slim, "--out", out)[0] == 0
        assert (out / f"{figure}.png").read_bytes().startswith(b"\x89PNG")
        assert "data:image/png" in (out / f"{figure}.html").read_text()
    assert path.read_text() == before
    status, _, error = quadric("paper", "table2", *slim, "--out", out, "--scale", "full")
    assert status == 1
    assert "scale was small and is full" in error
    assert quadric("paper", "table2", *slim, "--out", out, "--seeds", 2)[0] == 0
    assert path.read_text().startswith(before)
    assert read(path).seeds == [0, 1]


def test_an_interrupted_run_reports_and_goes_on(quadric, slim, tmp_path, monkeypatch):
    original = Training.step

    def step(self, batches):
        if self.name == "adam:lr=0.01" and self.steps == 1:
            raise KeyboardInterrupt
        return original(self, batches)

    with monkeypatch.context() as patched:
        patched.setattr(Training, "step", step)
        status, output, error = quadric("paper", "table2", *slim, "--out", tmp_path / "run")
    assert (status, error) == (
        1,
        "error: interrupted; the report has what was done until then, and the same command goes on.",
    )
    assert "unfinished" in output
    assert quadric("paper", "table2", *slim, "--out", tmp_path / "run")[0] == 0
    record = read(tmp_path / "run" / "cifar10-resnet18-slim" / "records.jsonl")
    assert len(record.over) == len(names("cifar10-resnet18-slim"))


def test_missing_data_are_an_error_before_anything_runs(quadric, slim, tmp_path):
    both = ["--networks", "cifar10-cnn,imagenet100-vgg-f", *slim[2:]]
    status, _, error = quadric("paper", "figure3", *both, "--out", tmp_path / "run")
    assert status == 1
    assert "ImageNet-100: no folder with train/ and val/" in error
    assert not (tmp_path / "run").exists()


def test_unknown_networks_are_bad_usage(quadric, tmp_path):
    status, _, error = quadric("paper", "table2", "--networks", "cifar10-cn", "--out", tmp_path)
    assert status == 2
    assert "Did you mean 'cifar10-cnn'" in error


def test_the_authors_damping_depends_on_batch_norm_and_published_figures_are_of_networks():
    assert names("cifar10-cnn")[:2] == ["curveball:damping=10", "curveball:damping=10:adapt_damping=false"]
    assert names("cifar10-cnn-bn")[0] == "curveball:damping=1"
    assert METHODS[0].published["cifar10-resnet18-dropout"] == (None, 13.5)
    assert METHODS[2].published["cifar10-resnet18"] == (2.1, 12.8)
    assert all(set(method.published) <= set(NETWORKS) for method in METHODS)


@pytest.mark.parametrize("part", ["table2", "figure2", "figure3"])
def test_help_has_examples(quadric, part):
    status, output, _ = quadric("paper", part, "--help")
    assert status == 0
    assert f"quadric paper {part} --scale full" in output
