"""The study: what is chosen, kept, shared and refused."""

from types import SimpleNamespace

import pytest

from bench.small import CPU
from quadric import problems
from quadric.bench.search import study as module
from quadric.bench.search.folds import Judging, without_test
from quadric.bench.search.space import parse
from quadric.bench.search.study import Study, public, run
from quadric.bench.search.trials import Outcome, Task

SPACE = parse("lr=log:1e-3:1,momentum=0:0.9,nesterov=false")
SIGNATURE = {"problem": "linear-regression", "optimiser": "sgd", "space": "lr=0:1"}


@pytest.fixture
def valley(monkeypatch):
    """Trials that cost nothing: best at lr = 0.1 whatever the momentum; what was tried is kept."""
    tried = []

    def evaluate(task, hyper, look):
        tried.append(hyper)
        value = (hyper["lr"] - 0.1) ** 2
        return Outcome("finished", "", 0.01, [value, value + 1e-3])

    monkeypatch.setattr(module, "evaluate", evaluate)
    return tried


@pytest.fixture
def task():
    problem = problems.get("linear-regression")
    return Task(problem, without_test(problem.open(None, CPU)), "sgd", Judging(), 1, "loss", CPU)


def opened(path, signature=SIGNATURE, seed=0, method="tpe", space=SPACE, points=3):
    found = Study(str(path), "quadric", signature, space, seed)
    found.choose(method, points)
    return found


def go(study, task, trials=None, budget=None, grid=False):
    return list(run(study, task, trials=trials, budget=budget, grid=grid))


@pytest.mark.parametrize("method", ["tpe", "random"])
def test_it_goes_on_where_it_was(tmp_path, valley, task, method):
    go(opened(tmp_path / "log", method=method), task, trials=3)
    again = opened(tmp_path / "log", method=method)
    go(again, task, trials=7)
    assert [trial.number for trial in again.trials] == list(range(7))
    assert len({hyper["lr"] for hyper in valley}) == 7
    assert go(opened(tmp_path / "log"), task, trials=7) == []
    assert again.trials[0].hyper == valley[0]
    assert valley[0]["nesterov"] is False


def test_the_same_seed_tries_the_same(tmp_path, valley, task):
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        go(opened(tmp_path / name, seed=seed), task, trials=2)
    assert valley[0:2] == valley[2:4] != valley[4:6]


def test_tpe_comes_closer_than_its_first_tries(tmp_path, valley, task):
    go(opened(tmp_path / "log"), task, trials=40)
    distance = [abs(hyper["lr"] - 0.1) for hyper in valley]
    assert sorted(distance[20:])[10] < sorted(distance[:10])[5]


def test_a_grid_is_tried_once_and_goes_on(tmp_path, valley, task):
    first = opened(tmp_path / "log", method="grid")
    go(first, task, trials=4, grid=True)
    rest = opened(tmp_path / "log", method="grid")
    go(rest, task, grid=True)
    assert len(valley) == 9
    assert sorted({hyper["lr"] for hyper in valley}) == pytest.approx([1e-3, 0.03162, 1])
    assert go(opened(tmp_path / "log", method="grid"), task, grid=True) == []


def test_halton_fills_the_space_goes_on_and_tries_nothing_twice(tmp_path, valley, task):
    go(opened(tmp_path / "log", method="halton"), task, trials=3)
    go(opened(tmp_path / "log", method="halton", seed=1), task, trials=7)
    shares = sorted(SPACE[0].share(hyper["lr"]) for hyper in valley)
    assert shares == pytest.approx([i / 8 for i in range(1, 8)], abs=1e-3)
    assert valley[0]["momentum"] == pytest.approx(0.3)


def test_halton_passes_over_what_was_tried_while_there_is_something_new(tmp_path, task, monkeypatch):
    tried = []

    def evaluate(task, hyper, look):
        tried.append(hyper["damping"])
        return Outcome("finished", "", 0.0, [1.0])

    monkeypatch.setattr(module, "evaluate", evaluate)
    study = opened(tmp_path / "log", method="halton", space=parse("damping=none|0.1|1|10"))
    study.begin_with({"damping": None})
    go(study, task, trials=4)
    assert tried[0] is None
    assert set(tried) == {None, 0.1, 1, 10}
    go(study, task, trials=6)
    assert len(tried) == 6


def test_an_interrupted_setting_of_a_grid_is_tried_again(tmp_path, valley, task, monkeypatch):
    plain = module.evaluate

    def interrupted(task, hyper, look):
        if len(valley) == 2:
            raise KeyboardInterrupt
        return plain(task, hyper, look)

    monkeypatch.setattr(module, "evaluate", interrupted)
    with pytest.raises(KeyboardInterrupt):
        go(opened(tmp_path / "log", method="grid"), task, grid=True)
    monkeypatch.setattr(module, "evaluate", plain)
    go(opened(tmp_path / "log", method="grid"), task, grid=True)
    assert len({tuple(hyper.values()) for hyper in valley}) == len(valley) == 9


def test_what_a_kill_left_is_released(tmp_path, valley, task):
    study = opened(tmp_path / "log", method="grid")
    study.study.ask(study.distributions)
    alone = Study(str(tmp_path / "log"), "quadric", SIGNATURE, SPACE)
    alone.release()
    alone.choose("grid", 3)
    go(alone, task, grid=True)
    assert len(valley) == 9


def test_two_share_a_database(tmp_path, valley, task):
    place = f"sqlite:///{tmp_path / 'study.db'}"
    one, two = (opened(place, seed=seed) for seed in (0, 1))
    go(one, task, trials=2)
    go(two, task, trials=4)
    assert [trial.number for trial in one.trials] == [0, 1, 2, 3]
    assert len({hyper["lr"] for hyper in valley}) == 4


def test_another_search_is_refused(tmp_path):
    opened(tmp_path / "log")
    with pytest.raises(ValueError, match="optimiser was sgd and is adam; space was lr=0:1 and is lr=0:2"):
        opened(tmp_path / "log", SIGNATURE | {"optimiser": "adam", "space": "lr=0:2"})


def test_a_study_of_someone_else_is_refused(tmp_path):
    import optuna

    place = f"sqlite:///{tmp_path / 'study.db'}"
    optuna.create_study(storage=place, study_name="quadric").optimize(lambda trial: 1.0, n_trials=1)
    with pytest.raises(ValueError, match="was not made by quadric tune"):
        opened(place)


def test_a_place_that_cannot_be_opened(tmp_path):
    with pytest.raises(ValueError, match=r"The study in nonsense://host/x cannot be opened"):
        opened("nonsense://user:secret@host/x")
    assert public("postgresql://me:secret@host/db") == "postgresql://host/db"


def test_a_budget_ends_before_a_trial_that_would_not_fit(tmp_path, valley, task, monkeypatch):
    now = iter(range(0, 1000, 10))
    monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: next(now)))
    monkeypatch.setattr(module, "evaluate", lambda *_: Outcome("finished", "", 10.0, [1.0]))
    assert len(go(opened(tmp_path / "log"), task, budget=35)) == 2


def test_the_hyper_parameter_that_matters_is_named(tmp_path, valley, task):
    study = opened(tmp_path / "log", method="random")
    go(study, task, trials=3)
    assert study.importance() == {}
    go(study, task, trials=25)
    shares = study.importance()
    assert shares["lr"] > 0.9
    assert sum(shares.values()) == pytest.approx(1)


def test_no_importances_without_variance(tmp_path, task, monkeypatch):
    values = iter([1.0, 1.0 + 1e-15, 1.0, 1.0, 1.0, 1.0])
    monkeypatch.setattr(module, "evaluate", lambda *_: Outcome("finished", "", 0.0, [next(values)]))
    study = opened(tmp_path / "log", method="random")
    go(study, task, trials=6)
    assert study.importance() == {}


def test_bad_trials_are_pruned(tmp_path, task, monkeypatch):
    values = iter([1.0, 1.1, 0.9, 1.2, 1.0, 50.0])

    def evaluate(task, hyper, look):
        value = next(values)
        return Outcome("pruned", "", 0.0) if look(1, value) else Outcome("finished", "", 0.0, [value])

    monkeypatch.setattr(module, "evaluate", evaluate)
    study = opened(tmp_path / "log", method="random")
    assert [outcome.status for outcome in go(study, task, trials=6)] == ["finished"] * 5 + ["pruned"]
    assert study.trials[-1].status == "pruned"


@pytest.mark.parametrize("method", ["grid", "halton"])
def test_settings_that_are_to_be_compared_are_never_pruned(tmp_path, task, monkeypatch, method):
    values = iter([1.0, 1.1, 0.9, 1.2, 1.0, 50.0])

    def evaluate(task, hyper, look):
        value = next(values)
        return Outcome("pruned", "", 0.0) if look(1, value) else Outcome("finished", "", 0.0, [value])

    monkeypatch.setattr(module, "evaluate", evaluate)
    study = opened(tmp_path / "log", method=method)
    study.choose(method, 6)
    found = [outcome.status for outcome in go(study, task, trials=6)]
    assert found == ["finished"] * len(found)
    assert len(found) == 6


def test_optuna_is_asked_for(monkeypatch):
    monkeypatch.setattr(module, "find_spec", lambda name: None)
    with pytest.raises(RuntimeError, match=r"needs optuna; install it with: pip install 'quadric\[tune\]'"):
        module.needed()
