"""`quadric trajectories`: what it draws, prints and refuses."""

import pytest

from quadric.bench import trajectories

OWN = """
import torch

def bowl(x):
    return (x * x).sum() + 1

def residuals(x):
    return torch.stack([x[0] - 3, 2 * (x[1] + 1)])

def broken(x):
    raise ZeroDivisionError("inside")

def late(x):
    if x[0] < 0.5:
        raise ZeroDivisionError("later")
    return (x * x).sum()
"""


@pytest.fixture(autouse=True)
def coarse(monkeypatch):
    monkeypatch.setattr(trajectories, "SIDE", 9)


@pytest.fixture
def own(tmp_path, monkeypatch):
    (tmp_path / "landscapes.py").write_text(OWN)
    monkeypatch.syspath_prepend(tmp_path)


def call(quadric, out, *more, steps=10):
    return quadric("trajectories", "--out", out, "--steps", steps, *more)


def test_figure_report_and_reasons(quadric, tmp_path):
    arguments = "--function", "quadratic", "--optimizers", "small=sgd,large=sgd,curveball"
    status, output, _ = call(
        quadric, tmp_path, *arguments, "--set", "small.lr=0.001", "--set", "large.lr=0.5", steps=60
    )
    assert status == 0
    text = " ".join(output.split())
    assert "large: diverged: f went from 27 to" in text
    assert "lr = 0.001 is small" in text
    assert "curveball: after 60 steps at (-2, 2), f = 0" in text
    assert output.splitlines()[-1] == f"report: {tmp_path / 'report.html'}"
    assert (tmp_path / "figures" / "trajectories.png").stat().st_size > 10_000


def test_report_redraws_the_same(quadric, tmp_path):
    _, output, _ = call(quadric, tmp_path)
    figure, page = tmp_path / "figures" / "trajectories.png", tmp_path / "report.html"
    before = figure.read_bytes(), page.read_bytes()
    figure.unlink()
    page.unlink()
    status, again, _ = quadric("report", tmp_path)
    assert status == 0
    assert output.endswith(again)
    assert (figure.read_bytes(), page.read_bytes()) == before


def test_a_record_without_its_contours_is_drawn(quadric, tmp_path):
    call(quadric, tmp_path, "--function", "quadratic", "--optimizers", "sgd,adam", "--set", "sgd.lr=9")
    path = tmp_path / "records.jsonl"
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(lines[:-1]) + lines[-1][:40])
    assert quadric("report", tmp_path)[0] == 0
    path.write_text(lines[0])
    status, _, error = quadric("report", tmp_path)
    assert (status, error) == (1, f"error: {path} holds no run yet, so there is nothing to report.")


@pytest.mark.parametrize("function", ["saddle", "monkey-saddle", "double-well", "beale", "himmelblau", "rosenbrock"])
def test_every_function_has_optimisers_that_suit_it(quadric, tmp_path, function):
    assert call(quadric, tmp_path, "--function", function)[0] == 0


def test_the_users_own_function(quadric, tmp_path, own):
    status, output, _ = call(quadric, tmp_path / "a", "--function", "landscapes:bowl", "--start", "-1.5,2", steps=50)
    assert status == 0
    assert "saddle-free-newton: after 50 steps at" in output
    status, output, _ = call(quadric, tmp_path / "b", "--function", "landscapes:residuals", "--start", "0,0")
    assert status == 0
    assert "curveball: after 10 steps at (3, -1), f = " in output


def test_settings_may_be_words_and_truths(quadric, tmp_path):
    arguments = "--function", "double-well", "--optimizers", "newton"
    settings = "--set", "newton.curvature=hessian", "--set", "newton.adapt=false", "--set", "newton.damping=2.5"
    status, output, _ = call(quadric, tmp_path, *arguments, *settings)
    assert status == 0
    assert "curvature hessian" in output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--function", "rosenbrok"], "--function: Unknown function 'rosenbrok'. Did you mean 'rosenbrock'"),
        (["--function", "nowhere:f"], "There is no module nowhere (nowhere:f)"),
        (["--function", "landscapes:bowl"], "a function of your own has to be callable, and needs --start x,y"),
        (["--start", "1"], "--start: Expected 2 numbers with commas between them, got '1'"),
        (["--start", "1,nan"], "--start: Expected 2 numbers with commas between them, got '1,nan'"),
        (["--window", "0,1,2"], "--window: Expected 4 numbers"),
        (["--window", "1,0,0,1"], "expected a window x0 < x1, y0 < y1"),
        (["--optimizers", "sgd,sgd"], "--optimizers: Expected different labels, got 'sgd,sgd'"),
        (["--optimizers", "sdg"], "--optimizers: sdg: Unknown optimiser 'sdg'. Did you mean 'sgd'"),
        (["--function", "saddle", "--optimizers", "curveball"], "curveball: A scalar output is the loss itself"),
        (["--function", "saddle", "--optimizers", "n=newton-cg"], "Or add --set n.curvature=hessian."),
        (["--set", "sgd.lr"], "--set: Expected label.name=value, such as sgd.lr=0.01, got 'sgd.lr'"),
        (["--set", "sdg.lr=1"], "--set: 'sdg.lr=1' is for 'sdg'; there are sgd, momentum, adam, bfgs, curveball"),
        (["--set", "sgd.rl=1"], "--optimizers: sgd: Unknown hyper-parameter of sgd 'rl'"),
        (["--steps", "0"], "Invalid value for '--steps'"),
    ],
)
def test_bad_usage_exits_with_2_and_writes_nothing(quadric, tmp_path, own, arguments, message):
    status, _, error = quadric("trajectories", "--out", tmp_path / "run", *arguments)
    assert status == 2
    assert message in error
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(("name", "text"), [("broken", "inside"), ("late", "later")])
def test_code_of_the_users_that_fails_is_one_line_with_its_place(quadric, tmp_path, own, name, text):
    arguments = "--function", f"landscapes:{name}", "--start", "1,1", "--optimizers", "sgd", "--set", "sgd.lr=0.1"
    status, _, error = call(quadric, tmp_path / "run", *arguments, steps=50)
    assert status == 1
    assert error.startswith(f"error: landscapes:{name} failed: ZeroDivisionError: {text} (")


def test_an_interrupt_keeps_and_draws_what_was_done(quadric, tmp_path, monkeypatch):
    follow = trajectories.follow

    def interrupted(optimizer, objective, steps, watch):
        if type(optimizer).__name__ == "Adam":
            raise KeyboardInterrupt
        follow(optimizer, objective, steps, watch)

    monkeypatch.setattr(trajectories, "follow", interrupted)
    status, output, error = call(quadric, tmp_path, "--optimizers", "sgd,adam,bfgs")
    assert (status, error) == (1, "error: interrupted; the report has what was done until then.")
    assert "sgd: after 10 steps" in output
    assert (tmp_path / "figures" / "trajectories.png").exists()


def test_another_run_is_refused_and_overwritten_on_request(quadric, tmp_path):
    call(quadric, tmp_path, "--optimizers", "sgd")
    status, _, error = call(quadric, tmp_path, "--optimizers", "sgd")
    assert (status, error) == (1, f"error: {tmp_path} holds another run. Name another directory, or add --overwrite.")
    assert call(quadric, tmp_path, "--optimizers", "sgd", "--overwrite")[0] == 0
