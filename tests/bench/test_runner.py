"""The training loop: the same for everyone, timed without its evaluations, and honest about how a run ended."""

import copy
import math
from dataclasses import replace
from itertools import count

import pytest
import torch

from bench.small import CPU, digits
from quadric import ConvergenceError, Objective, optim, problems
from quadric.bench import runner
from quadric.bench.evaluation import metrics
from quadric.bench.records import End, Evaluation, Reached
from quadric.bench.runner import Entry, Stopwatch, run, warm_up
from quadric.optim.optimizer import StepReport


def events_of(entries, *, epochs=1, seeds=(0,), **changes):
    problem, draw = digits(**changes)
    return list(run(problem, entries, draw, epochs=epochs, seeds=seeds, device=CPU))


def test_the_loop_is_the_one_that_a_user_would_write():
    problem, draw = digits(evaluate_every=5)
    events = list(run(problem, [Entry("momentum", {"lr": 0.1})], draw, epochs=2, seeds=[3], device=CPU))
    instance = draw(3)
    objective = Objective(instance.model, instance.loss_fn)
    optimizer = optim.create("momentum", objective, lr=0.1)
    step = 0
    expected = {0: (*metrics(instance, instance.train), *metrics(instance, instance.test))}
    for epoch in range(2):
        for batch in instance.epoch(epoch):
            optimizer.step(objective.on(batch))
            step += 1
            expected[step] = (*metrics(instance, instance.train), *metrics(instance, instance.test))
    looks = [event for event in events if isinstance(event, Evaluation)]
    assert [look.step for look in looks] == [0, 5, 10, 15, 20, 24]
    assert [look.epoch for look in looks] == [look.step / 12 for look in looks]
    assert all(
        (look.train_loss, look.train_error, look.test_loss, look.test_error) == expected[look.step] for look in looks
    )


def test_a_run_in_seconds_ends_by_its_own_clock_and_is_looked_at_less_and_less(monkeypatch):
    clock = count()
    monkeypatch.setattr(runner, "Stopwatch", lambda device: Stopwatch(device, lambda: next(clock)))
    monkeypatch.setattr(runner, "DENSE_LOOKS", 4)
    problem, draw = digits(evaluate_every=1)
    events = list(run(problem, [Entry("sgd")], draw, epochs=None, seeds=[0], device=CPU, seconds=20))
    assert [e.step for e in events if isinstance(e, Evaluation)] == [0, 1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 14, 16, 19]
    assert (events[-1].steps, events[-1].reason) == (19, "all seconds done")  # an epoch's end took one of them
    both = list(run(problem, [Entry("sgd")], draw, epochs=1, seeds=[0], device=CPU, seconds=20))
    assert (both[-1].steps, both[-1].reason) == (12, "all epochs done")


def test_a_factorisation_that_fails_ends_the_run_and_no_other(monkeypatch):
    problem, draw = digits()
    step = runner.Training.step

    def failing(self, batches):
        if self.name == "adam" and self.steps == 3:
            raise torch.linalg.LinAlgError("no convergence")
        return step(self, batches)

    monkeypatch.setattr(runner.Training, "step", failing)
    events = list(run(problem, [Entry("adam"), Entry("sgd")], draw, epochs=1, seeds=[0], device=CPU))
    ends = {event.optimizer: event for event in events if isinstance(event, runner.End)}
    assert (ends["adam"].status, ends["adam"].reason) == ("diverged", "step 4: no convergence")
    assert ends["sgd"].status == "finished"


def test_a_run_does_not_depend_on_what_it_is_compared_with():
    def with_dropout(draw):
        def drawn(seed):
            instance = draw(seed)
            model = torch.nn.Sequential(torch.nn.Dropout(0.3), instance.model)
            return replace(instance, model=model)

        return drawn

    problem, draw = digits()
    draw = with_dropout(draw)
    sgd, adam = Entry("sgd", {"lr": 0.1}), Entry("adam", {"lr": 0.01})

    def losses(entries):
        events = run(problem, entries, draw, epochs=1, seeds=[0, 1], device=CPU)
        return [(e.seed, e.step, e.train_loss) for e in events if isinstance(e, Evaluation) and e.optimizer == "sgd"]

    before = torch.get_rng_state()
    assert losses([sgd]) == losses([adam, sgd])
    assert torch.equal(torch.get_rng_state(), before)


def test_optimisers_advance_together_and_take_turns_at_going_first():
    events = events_of([Entry("sgd", {"lr": 0.1}), Entry("adam")], seeds=(0, 1), evaluate_every=6)
    order = [(event.seed, event.optimizer, event.step) for event in events if isinstance(event, Evaluation)]
    assert order == [
        *[(0, name, step) for step in (0, 6, 12) for name in ("sgd", "adam")],
        *[(1, name, step) for step in (0, 6, 12) for name in ("adam", "sgd")],
    ]


class FakeTime:
    """A clock that moves by hand."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


def test_evaluation_is_not_counted_as_training(monkeypatch):
    clock = FakeTime()

    class Slow(torch.optim.SGD):
        def step(self, closure):
            clock.now += 1
            return super().step(closure)

    def look(instance, batches):
        clock.now += 1000
        return 1.0, 0.5

    monkeypatch.setattr(runner, "Stopwatch", lambda device: Stopwatch(device, clock))
    monkeypatch.setattr(runner, "metrics", look)
    monkeypatch.setattr(optim, "create", lambda name, objective: Slow(objective.parameters, lr=0.1))
    events = events_of([Entry("slow")], evaluate_every=4)
    assert [(e.step, e.seconds) for e in events if isinstance(e, Evaluation)] == [(0, 0), (4, 4), (8, 8), (12, 12)]
    assert events[-1] == End(
        "slow", 0, "finished", "all epochs done", 12, 12, {"forward": 12, "backward": 12, "curvature": 0}
    )


def test_the_target_is_reported_once_with_steps_and_seconds():
    events = events_of([Entry("momentum", {"lr": 0.3})], epochs=8)
    (reached,) = [event for event in events if isinstance(event, Reached)]
    looks = [event for event in events if isinstance(event, Evaluation)]
    first = next(look for look in looks if look.train_loss <= 0.1)
    assert (reached.step, reached.seconds) == (first.step, first.seconds)
    assert looks[-1].step == 96


def test_a_target_on_the_loss_of_steps_is_checked_at_every_step_and_ends_the_run():
    problem = problems.get("rosenbrock")
    draw = problem.open(None, CPU)
    entry = Entry("newton-like")

    class Jump(torch.optim.Optimizer):
        def __init__(self, params):
            super().__init__(params, {})
            self.taken = 0

        def step(self, closure):
            loss = closure()
            self.taken += 1
            if self.taken == 6:
                with torch.no_grad():
                    self.param_groups[0]["params"][0].fill_(1.0)
            return loss

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(optim, "create", lambda name, objective: Jump(objective.parameters))
        events = list(run(problem, [entry], draw, epochs=50, seeds=[0], device=CPU))
    (reached,) = [event for event in events if isinstance(event, Reached)]
    assert reached.step == 7  # the first step that sees the low loss before it moves
    assert events[-1].status == "finished"
    assert events[-1].reason == "solved, step loss ≤ 0.0001"
    assert events[-1].steps == 7


def test_a_run_that_diverges_is_recorded_as_such_and_the_others_go_on():
    problem, draw = digits()

    class Wild(torch.optim.SGD):
        def step(self, closure):
            loss = super().step(closure)
            with torch.no_grad():
                self.param_groups[0]["params"][0].fill_(math.nan)
            return loss

    create = optim.create
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            optim,
            "create",
            lambda name, objective, **h: Wild(objective.parameters) if name == "wild" else create(name, objective, **h),
        )
        events = list(run(problem, [Entry("wild"), Entry("sgd")], draw, epochs=1, seeds=[0], device=CPU))
    ends = {event.optimizer: event for event in events if isinstance(event, End)}
    assert (ends["wild"].status, ends["wild"].reason, ends["wild"].steps) == (
        "diverged",
        "the loss of step 2 is nan",
        2,
    )
    assert ends["sgd"].status == "finished"


def test_an_optimiser_that_gives_up_has_diverged(monkeypatch):
    class GivesUp(torch.optim.SGD):
        def step(self, closure):
            raise ConvergenceError("10 steps in a row were rejected")

    monkeypatch.setattr(optim, "create", lambda name, objective: GivesUp(objective.parameters))
    end = events_of([Entry("stubborn")])[-1]
    assert (end.status, end.reason) == ("diverged", "step 1: 10 steps in a row were rejected")


def test_rejected_steps_are_counted_and_do_not_end_the_run(monkeypatch):
    class Careful(torch.optim.SGD):
        last_step = None

        def step(self, closure):
            rejected = self.last_step is None or not self.last_step.rejected
            self.last_step = StepReport(math.nan, rejected=rejected)
            return torch.tensor(math.nan) if rejected else closure()

    monkeypatch.setattr(optim, "create", lambda name, objective: Careful(objective.parameters))
    end = events_of([Entry("careful")])[-1]
    assert (end.status, end.reason) == ("finished", "all epochs done; 6 of 12 steps were rejected")


def test_curveball_reports_its_quantities_at_every_look():
    looks = [e for e in events_of([Entry("curveball")]) if isinstance(e, Evaluation)]
    assert looks[0].quantities == {}
    for look in looks[1:]:
        assert look.quantities["damping"] > 0
        assert {"momentum", "step_size", "predicted_reduction", "products"} <= look.quantities.keys()


def test_an_evaluation_leaves_modes_gradients_and_buffers_as_they_were():
    _, draw = digits()
    instance = draw(0)
    model = torch.nn.Sequential(torch.nn.BatchNorm1d(64), instance.model).train()
    model[1].eval()
    instance = replace(instance, model=model)
    before = copy.deepcopy(model.state_dict())
    metrics(instance, instance.train)
    metrics(instance, instance.test)
    assert model.training
    assert not model[1].training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())


def test_evaluation_averages_over_examples_not_batches():
    _, draw = digits()
    instance = draw(0)
    whole = tuple(torch.cat(parts) for parts in zip(*instance.train, strict=True))
    uneven = [(whole[0][:7], whole[1][:7]), (whole[0][7:], whole[1][7:])]
    loss, error = metrics(instance, uneven)
    with torch.no_grad():
        assert loss == pytest.approx(float(instance.loss_fn(instance.model(whole[0]), whole[1])), rel=1e-5)
        assert error == pytest.approx(float(instance.error(instance.model(whole[0]), whole[1]).mean()), rel=1e-12)


def test_warming_up_leaves_no_trace():
    problem, draw = digits()
    before = torch.get_rng_state()
    warm_up(problem, [Entry("sgd"), Entry("curveball")], draw, CPU)
    assert torch.equal(torch.get_rng_state(), before)
