"""One setting, trained and judged."""

import math

import pytest
import torch

from bench.small import CPU, digits
from quadric import problems
from quadric.bench.search import trials
from quadric.bench.search.folds import Judging, without_test
from quadric.bench.search.trials import Task, estimate, evaluate


def task(judging=None, name="digits-mlp", method="sgd", epochs=1, metric="loss"):
    problem = problems.get(name)
    return Task(
        problem, without_test(problem.open(None, CPU)), method, judging or Judging(folds=3), epochs, metric, CPU
    )


def never(step, value):
    return False


def test_a_score_for_each_run_and_the_same_again():
    one, two = (evaluate(task(), {"lr": 0.1}, never) for _ in range(2))
    assert one.status == "finished"
    assert len(one.scores) == 3
    assert one.scores == two.scores
    assert one.value == pytest.approx(sum(one.scores) / 3)


def test_the_score_is_that_of_the_held_out_examples():
    problem, draw = digits()
    instance = trials.held_out(draw, problem, Judging(holdout=0.2), 0)(1001)
    optimizer = torch.optim.SGD(instance.model.parameters(), lr=0.1)
    for x, y in instance.epoch(0):
        optimizer.zero_grad()
        instance.loss_fn(instance.model(x), y).backward()
        optimizer.step()
    (x, y) = instance.test[0]
    loss = instance.loss_fn(instance.model(x), y).item()
    wrong = (instance.model(x).argmax(1) != y).double().mean().item()
    for metric, expected in (("loss", loss), ("error", wrong)):
        found = evaluate(task(Judging(holdout=0.2), metric=metric), {"lr": 0.1}, never)
        assert found.scores == pytest.approx([expected], rel=1e-5)


def test_train_loss_judges_where_nothing_is_held_out():
    found = evaluate(task(Judging(), "linear-regression", epochs=50), {"lr": 0.5}, never)
    assert found.status == "finished"
    assert 0 < found.value < 0.1


def test_a_run_goes_on_after_the_problems_target():
    found = evaluate(task(Judging(), "rosenbrock", "newton", epochs=60), {}, never)
    assert found.value < 1e-8


def test_only_the_first_run_is_given_up():
    seen = []

    def look(step, value):
        seen.append(step)
        return len(seen) == 2

    found = evaluate(task(epochs=2), {"lr": 0.1}, look)
    assert (found.status, found.scores) == ("pruned", [])
    assert "steps, worse than the median of others there" in found.reason
    seen.clear()
    assert evaluate(task(epochs=1), {"lr": 0.1}, look).status == "finished"
    assert len(seen) == 1


def test_what_diverges_says_so():
    found = evaluate(task(Judging(), "linear-regression", epochs=500), {"lr": 1e4}, never)
    assert (found.status, found.scores) == ("diverged", [])
    assert "loss" in found.reason


def test_a_matrix_that_cannot_be_factored_ends_the_trial(monkeypatch):
    def broken(*_, **__):
        raise torch.linalg.LinAlgError("singular")

    monkeypatch.setattr(trials, "run", broken)
    assert evaluate(task(), {}, never).status == "diverged"


def test_an_estimate_counts_runs_and_epochs():
    one = estimate(task(Judging(holdout=0.2)), {"lr": 0.1})
    assert math.isfinite(one)
    assert one > 0
    with pytest.raises(TypeError, match=r"Unknown hyper-parameter of sgd 'rl'\. Did you mean 'lr'"):
        estimate(task(), {"rl": 0.1})


def test_a_step_that_fails_is_no_reason_to_refuse_a_setting(monkeypatch):
    def broken(*_):
        raise torch.linalg.LinAlgError("singular")

    monkeypatch.setattr(trials.Training, "step", broken)
    assert estimate(task(), {"lr": 0.1}) == 0.0


def test_what_cannot_be_judged():
    with pytest.raises(ValueError, match="linear-regression has no notion of an error; use the loss"):
        task(Judging(), "linear-regression", metric="error").check()
    with pytest.raises(ValueError, match="3 folds and 1 training example"):
        task(name="rosenbrock").check()
