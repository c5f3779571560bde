"""The search over methods: how runs are divided, who goes on, and what is recommended."""

import pytest

from quadric.bench.search import recommendation as module
from quadric.bench.search.halving import Contender, Rung, fewest, finalists, planned, search
from quadric.bench.search.recommendation import Attempt, Race, chance
from quadric.bench.search.records import Trial


def test_a_plan_uses_what_there_is_and_no_more():
    plan = planned(7, 60, 5)
    assert plan.rungs == (Rung(7, 2), Rung(4, 3), Rung(3, 6))
    assert (plan.finalists, plan.repeats) == (3, 5)
    for methods in range(1, 9):
        for runs in range(fewest(methods, 5), 120):
            plan = planned(methods, runs, 5)
            assert plan.runs <= runs
            assert plan.rungs[0].tries >= 1


def test_too_few_runs_are_refused():
    with pytest.raises(ValueError, match="A try of each of 7 methods and 5 repeats of 3 finalists take 22 runs"):
        planned(7, 21, 5)
    assert planned(7, 22, 5).runs == 22


class Known:
    """A study whose settings all have the metric that is known of its method."""

    def __init__(self, value):
        self.value, self.trials = value, []

    def attempt(self, task):
        number = len(self.trials)
        status = "diverged" if self.value is None else "finished"
        self.trials.append(Trial(number, {"lr": number}, status, "", 1.0, [] if self.value is None else [self.value]))


def test_the_better_half_goes_on_and_nothing_is_tried_twice():
    contenders = {name: Contender(None, Known(value)) for name, value in zip("abcde", [3, None, 1, 2, 5], strict=True)}
    plan = planned(5, 40, 2)
    steps = search(contenders, plan)
    for _ in range(7):
        next(steps)
    list(search(contenders, plan))
    tries = [rung.tries for rung in plan.rungs]
    counts = {name: len(contender.study.trials) for name, contender in contenders.items()}
    assert counts == {"c": sum(tries), "d": sum(tries), "a": sum(tries), "e": tries[0], "b": tries[0]}
    assert list(finalists(contenders, plan)) == ["c", "d", "a"]
    assert list(search(contenders, plan)) == []


def attempt(method, stage, number, score):
    return Attempt(method, stage, number, {"lr": 0.1}, "finished" if score is not None else "diverged", "", 1.0, score)


def race(**finals):
    plan = {"rungs": [[len(finals), 1]], "finalists": len(finals), "repeats": 5}
    header = {"plan": plan, "spaces": dict.fromkeys(finals, "lr=0:1"), "left out": {}}
    header["search"] = {"problem": "p", "metric": "loss", "judged by": "train loss", "a run": "1 s"}
    attempts = [attempt(name, "search", 0, values[0]) for name, values in finals.items()]
    attempts += [attempt(name, "final", i, v) for name, values in finals.items() for i, v in enumerate(values)]
    return Race(header, attempts)


def test_one_that_is_always_better_is_surely_recommended():
    found = race(slow=[2.0, 2.1, 1.9, 2.2, 2.0], fast=[1.0, 1.2, 0.9, 1.1, 1.0]).recommendation
    assert (found.method, found.ties) == ("fast", {})
    assert found.sure > 0.99


def test_equal_ones_are_a_tie():
    found = race(one=[1.0, 2.0, 3.0, 4.0, 5.0], two=[1.5, 1.9, 3.2, 3.7, 5.0]).recommendation
    assert set(found.ties) <= {"one", "two"}
    assert len(found.ties) == 1
    assert found.sure < 0.9


def test_sureness_is_right_as_often_as_it_says():
    """Of recommendations that are 80 to 90 % sure at least, so many or more are of the better one."""
    import random

    draw = random.Random(0)
    right = []
    for _ in range(4000):
        gap = draw.gauss(0, 0.5)
        ones = [draw.gauss(0, 1) for _ in range(5)]
        twos = [draw.gauss(gap, 1) for _ in range(5)]
        found = race(one=ones, two=twos).recommendation
        if 0.8 <= found.sure <= 0.9:
            right.append(found.method == ("one" if gap > 0 else "two"))
    assert len(right) > 200
    assert 0.6 < sum(right) / len(right) < 0.95


def test_who_diverges_is_not_recommended():
    found = race(risky=[0.1, 0.1, None, 0.1, 0.1], safe=[1.0, 1.1, 1.0, 1.2, 0.9]).recommendation
    assert (found.method, found.ties) == ("safe", {})
    assert race(risky=[None, 1.0, 1.0, 1.0, 1.0]).recommendation is None


def test_only_seeds_that_all_have_run_count():
    found = race(one=[1.0, 1.0, 1.0], two=[2.0, 2.1, 0.0, 0.0, 0.0]).recommendation
    assert found.method == "one" or found.ties
    assert race(one=[1.0], two=[2.0]).recommendation.sure == 0.0


def test_chances():
    assert chance([1.0, 2.0], [1.0, 2.0]) == 0.5
    assert chance([1.0, 1.0], [2.0, 2.0]) == 0.0
    assert chance([1.0], [2.0]) == 0.5
    assert chance([1.0, 2.0, 3.0], [2.0, 2.5, 4.5]) == pytest.approx(0.0377, abs=1e-3)


def test_a_record_is_read_back(tmp_path):
    from quadric.bench.journal import Journal

    path = tmp_path / "records.jsonl"
    header = race(one=[1.0]).header
    with Journal(path, module.LAYOUT, header) as lines:
        lines.write("attempt", attempt("one", "search", 0, 1.0).__dict__)
    path.write_text(path.read_text() + '{"kind": "attem')
    found = module.read(path)
    assert found.attempts == [attempt("one", "search", 0, 1.0)]
    assert "cut off" in found.damage
