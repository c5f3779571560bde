"""The search for learning rates, and the committed result of it."""

import math

import pytest
import torch

from bench.small import CPU, digits
from quadric import optim, problems
from quadric.bench import rates
from quadric.bench.rates import FIRST_ORDER, entry, searched, tuned_setting
from quadric.bench.tuning import COARSE, Score, Tries, baseline, best, neighbours, search, shortened, tune
from quadric.problems import linear_regression

DIGITS = problems.get("digits-mlp")
LABELS = [each.label for name in problems.names() for each in problems.get(name).sizes]
SEARCHED = [label for label in LABELS if not problems.labelled(label).unsearched]


@pytest.mark.parametrize("optimum", [2e-4, 1e-3, 0.03, 0.7, 25.0])
def test_the_search_finds_the_best_half_decade_in_eight_tries(optimum):
    tries = []

    def distance(rate):
        tries.append(rate)
        return Score(0, abs(math.log(rate / optimum)), 0.0)

    rate, tried = search(distance)
    assert len(tries) == len(set(tries)) == 8
    assert list(tried) == sorted(tries)
    assert abs(math.log10(rate / optimum)) < 0.3


def test_neighbours_are_half_a_decade_away():
    assert [neighbours(rate) for rate in COARSE[:3]] == [(3e-5, 3e-4), (3e-4, 3e-3), (3e-3, 3e-2)]


def test_a_missed_target_counts_before_steps_and_steps_before_the_loss():
    tried = {1.0: Score(1, 5, 0.0), 2.0: Score(0, 50, 0.9), 3.0: Score(0, 50, 0.1), 4.0: Score(0, 51, 0.0)}
    assert best(tried) == 3.0


def test_a_score_tells_what_the_runs_did():
    problem, draw = digits()
    good = Tries(problem, draw, 6).score("momentum", [0, 1], problem.target, 0.3)
    assert good.missed == 0
    assert 15 < good.steps < 72
    assert good.loss < 0.1
    slow = Tries(problem, draw, 1).score("momentum", [0, 1], problem.target, 1e-4)
    assert (slow.missed, slow.steps) == (2, math.inf)


def test_a_target_of_step_losses_is_reached_at_the_step_that_ends_the_run():
    problem = problems.get("rahimi-recht")
    score = Tries(problem, problem.open(None, CPU), 200).score("sgd", [0], problem.target, 0.1)
    assert score.missed == 0
    assert 20 < score.steps < 200


def test_a_search_sees_no_test_examples_and_may_stop_within_an_epoch():
    _, draw = digits()
    whole = list(draw(0).epoch(0))
    instance = shortened(draw, 0.25)(0)
    assert instance.test == ()
    assert all(torch.equal(x, u) for (x, _), (u, _) in zip(instance.epoch(0), whole[:3], strict=True))
    assert len(list(shortened(draw, 20)(0).epoch(0))) == len(whole)


def test_passing_the_target_without_staying_there_is_a_miss(monkeypatch):
    problem = problems.get("linear-regression-no-intercept")
    slope = float(linear_regression.closed_form(intercept=False)[0])

    class Passing(torch.optim.SGD):
        taken = 0

        def step(self, closure):
            self.taken += 1
            with torch.no_grad():
                self.param_groups[0]["params"][0].fill_(slope if self.taken == 3 else slope + 1)
            return closure()

    monkeypatch.setattr(optim, "create", lambda name, objective, lr: Passing(objective.parameters, lr))
    draw = problem.open(None, CPU)
    assert Tries(problem, draw, 3).score("passing", [0], problem.target, 1.0).missed == 0
    assert Tries(problem, draw, 4).score("passing", [0], problem.target, 1.0).missed == 1


@pytest.mark.parametrize("name", SEARCHED)
def test_the_committed_search_covers_every_problem_and_first_order_method_with_the_present_target(name):
    stored = searched()["problems"][name]
    assert stored["target"] == str(rates.target(problems.labelled(name))), "repeat the search: make tune-first-order"
    assert set(stored["optimizers"]) >= set(FIRST_ORDER)
    for method, found in stored["optimizers"].items():
        assert len(found["tried"]) == 8
        assert f"{found[tuned_setting(method)]:g}" in found["tried"]


def test_first_order_methods_get_their_searched_rate_and_the_others_nothing():
    assert set(FIRST_ORDER) <= set(optim.names())
    found = searched()["problems"]["digits-mlp"]["optimizers"]["sgd"]["lr"]
    assert entry(DIGITS, "sgd").hyper == {"lr": found}
    for name in ("curveball", "lbfgs"):
        assert entry(DIGITS, name).hyper == {}


def test_a_problem_without_a_search_says_so(monkeypatch):
    monkeypatch.setattr(rates, "searched", lambda: {"problems": {}})
    assert entry(DIGITS, "sgd").hyper == {}
    assert entry(DIGITS, "sgd").origin == "its defaults, no search was done for this problem"


def test_only_networks_that_need_a_gpu_are_not_searched():
    unsearched = {label.partition("/")[0] for label in LABELS} - {label.partition("/")[0] for label in SEARCHED}
    assert all(name.startswith(("cifar10-", "imagenet100-")) for name in unsearched)
    assert not set(searched()["problems"]) - set(SEARCHED)


def test_a_problem_that_is_not_searched_says_which_command_searches_it_and_takes_explicit_settings():
    problem = problems.get("cifar10-cnn-bn").at("full")
    with pytest.raises(
        ValueError,
        match=r"No learning rate was searched for sgd on cifar10-cnn-bn/full: .* two cores\. Give one, as in "
        r"sgd:lr=0\.1, .*tune --problem cifar10-cnn-bn --scale full --optimizer sgd --space lr=log:1e-4:10",
    ):
        entry(problem, "sgd")
    assert entry(problem, "curveball").hyper == {}
    given = entry(problem, "momentum:lr=0.1:nesterov=true")
    assert (given.method, given.hyper, given.origin) == ("momentum", {"lr": 0.1, "nesterov": True}, "as given")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("sgd:lr", r"Expected settings as in sgd:lr=0\.1, each once, got 'sgd:lr'"),
        ("sgd:lr=1:lr=2", "each once"),
        ("sgd:rate=1", "sgd:rate=1: Unknown hyper-parameter of sgd 'rate'"),
        ("sgd:lr=-1", "sgd:lr=-1: Invalid learning rate"),
    ],
)
def test_settings_that_are_none(name, message):
    with pytest.raises(ValueError, match=message):
        entry(DIGITS, name)


def test_tuned_entries_have_one_searched_number_of_the_same_space_damping_included():
    tuned, untuned = entry(DIGITS, "curveball@tuned"), entry(DIGITS, "curveball")
    assert (tuned.method, tuned.track, list(tuned.hyper)) == ("curveball", "tuned", ["damping"])
    assert (untuned.method, untuned.track, untuned.hyper, untuned.search) == ("curveball", "self-tuning", {}, {})
    sgd = entry(DIGITS, "sgd")
    assert (sgd.track, sgd.search["setting"]) == ("tuned", "lr")
    for each in (tuned, sgd):
        tried = sorted(map(float, each.search["tried"]))
        assert len(tried) == 8
        assert set(COARSE) < set(tried)


def test_tuned_without_a_search_and_other_suffixes_are_refused_with_advice():
    with pytest.raises(
        ValueError, match=r"No search was done for sr1 on digits-mlp: .*tuning digits-mlp --methods sr1"
    ):
        entry(DIGITS, "sr1@tuned")
    with pytest.raises(ValueError, match=r"Expected adam or adam@tuned, got 'adam@home'\."):
        entry(DIGITS, "adam@home")


def test_the_target_is_what_re_runs_of_the_best_first_order_method_set(monkeypatch):
    stored = {"threshold": 0.25, "method": "adam", "lr": 0.03, "epoch": 3.75, "epochs": 5, "reruns": [0.2, 0.25, 0.3]}
    with monkeypatch.context() as patched:
        patched.setattr(rates, "searched", lambda: {"problems": {"mnist-mlp": {"baseline": stored}}})
        found = rates.target(problems.get("mnist-mlp"))
    assert found.threshold == 0.25
    assert "3 re-runs of the best tuned first-order method, adam with lr 0.03, after 3.75 of 5" in found.origin
    analytic = problems.get("rosenbrock")
    assert rates.target(analytic) is analytic.target


def test_a_baseline_is_what_the_best_method_attains_by_three_quarters_of_the_run(monkeypatch):
    problem, draw = digits(epochs=4)
    tries = Tries(problem, shortened(draw, 4), 4)
    monkeypatch.setattr("quadric.bench.tuning.FIRST_ORDER", ("sgd", "momentum"))
    monkeypatch.setattr("quadric.bench.tuning.RERUNS", (7, 8, 9))
    found = baseline(tries, [5])
    assert found["method"] == "momentum"
    again = [tries.attained("momentum", seed, found["lr"]) for seed in (7, 8, 9)]
    assert found["threshold"] == pytest.approx(sorted(again)[1], rel=1e-5)
    last = [e.train_loss for e in tries.course("momentum", found["lr"], 7) if getattr(e, "epoch", 9) <= 3][-1]
    assert again[0] == last


def test_more_methods_need_a_first_search(monkeypatch):
    with pytest.raises(ValueError, match="No search was done on digits-mlp yet: leave --methods out"):
        tune("digits-mlp", ["kfac"], {})
