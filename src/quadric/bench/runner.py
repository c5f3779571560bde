"""The training loop of every comparison, the same for torch's optimisers and ours, and its clock."""

from __future__ import annotations

import math
import re
import time
import warnings
from collections.abc import Callable, Collection, Generator, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from itertools import count
from types import TracebackType
from typing import Any, Literal

import torch

from quadric import optim
from quadric.bench.evaluation import metrics
from quadric.bench.records import End, Evaluation, Event, Reached, Status
from quadric.core.errors import ConvergenceError, StepRejected
from quadric.core.passes import PASSES, Passes
from quadric.core.randomness import RandomState, replayed
from quadric.objective import Objective
from quadric.problems import Batch, Instance, Problem
from quadric.problems.problem import Draw

QUANTITIES = ("damping", "momentum", "step_size", "predicted_reduction", "actual_reduction", "products")
WARM_UP_STEPS = 2
DENSE_LOOKS = 8
"""A run in seconds has any number of steps: after so many looks they are a share of the steps before them apart."""
LinAlgError: type[RuntimeError] = torch.linalg.LinAlgError  # type: ignore[attr-defined]  # exported in silence
Track = Literal["self-tuning", "tuned"]
"""Whether a method runs as it is on every problem, or with a setting that was searched for on this one."""


@dataclass(frozen=True)
class Entry:
    """An optimiser in a comparison: its name, its hyper-parameters, where they come from, and the search for them.

    What follows an "@" or ":" in the name tells apart entries of one optimiser: `sgd`, `sgd@tuned` and `sgd:lr=0.1`.
    """

    name: str
    hyper: dict[str, Any] = field(default_factory=dict)
    origin: str = "defaults"
    track: Track = "self-tuning"
    search: dict[str, Any] = field(default_factory=dict)

    @property
    def method(self) -> str:
        """The optimiser's name in the registry."""
        return re.split("[@:]", self.name)[0]


class Stopwatch:
    """Adds up the seconds spent within `with` blocks; work that a GPU still has to do is waited for."""

    def __init__(self, device: torch.device, clock: Callable[[], float] = time.perf_counter) -> None:
        self.device = device
        self.clock = clock
        self.seconds = 0.0

    def __enter__(self) -> None:
        self.started = self.clock()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        self.seconds += self.clock() - self.started


class Training:
    """One optimiser on one instance of a problem. `events` trains, and stops for a moment at every event."""

    def __init__(self, entry: Entry, problem: Problem, instance: Instance, seed: int, device: torch.device) -> None:
        self.name, self.seed = entry.name, seed
        self.target, self.evaluate_every = problem.target, problem.evaluate_every
        self.instance = instance
        self.objective = Objective(instance.model, instance.loss_fn)
        self.optimizer = optim.create(entry.method, self.objective, **entry.hyper)
        self.watch = Stopwatch(device)
        self.passes = Passes()
        self.steps = self.refused = 0
        self.looked = -1
        self.solved = False

    def events(self, epochs: int | None, seconds: float | None = None) -> Iterator[Event]:
        """Train for `epochs` epochs or `seconds` of its own clock, whichever end first; `None` sets no end.

        It ends earlier where the run diverges, or is solved where the target says to stop then.
        """
        yield from self.look()
        status, reason = yield from self.train(epochs, math.inf if seconds is None else seconds)
        if self.looked < self.steps:
            yield from self.look()
        if self.refused:
            reason += f"; {self.refused} of {self.steps} steps were rejected"
        yield End(self.name, self.seed, status, reason, self.steps, self.watch.seconds, asdict(self.passes))

    def train(self, epochs: int | None, seconds: float) -> Generator[Event, None, tuple[Status, str]]:
        """The loop; returns how it ended, and why."""
        for epoch in count() if epochs is None else range(epochs):
            batches = self.instance.epoch(epoch)
            while True:
                try:
                    loss = self.step(batches)
                except (ConvergenceError, LinAlgError) as error:
                    return "diverged", f"step {self.steps + 1}: {error}"
                if loss is None:
                    break
                if not math.isfinite(loss) and not self.rejected:
                    return "diverged", f"the loss of step {self.steps} is {loss}"
                yield from self.check("step_loss", loss)
                if self.steps % self.interval(math.isfinite(seconds)) == 0:
                    yield from self.look()
                if self.solved and self.target.stops:
                    return "finished", f"solved, {self.target}"
                if self.watch.seconds >= seconds:
                    return "finished", "all seconds done"
        return "finished", "all epochs done"

    def interval(self, sparse: bool) -> int:
        """Steps between evaluations; with `sparse`, doubled each time that all steps so far are `DENSE_LOOKS` of it.

        It depends on the number of steps alone, so that runs of different seeds are looked at at the same steps.
        """
        sparseness = self.steps // (DENSE_LOOKS * self.evaluate_every) if sparse else 0
        return self.evaluate_every << max(sparseness.bit_length() - 1, 0)

    def step(self, batches: Iterator[Batch]) -> float | None:
        """One timed step on the next batch: its loss, or `None` when there is no batch left."""
        before = PASSES.now()
        with self.watch:
            batch = next(batches, None)
            if batch is None:
                return None
            loss = self.optimizer.step(self.objective.on(batch))  # type: ignore[arg-type]  # torch says float
        self.passes.add_since(before)
        self.steps += 1
        self.refused += self.rejected
        return float(loss)

    @property
    def rejected(self) -> bool:
        """Whether the optimiser refused its last step and restored everything."""
        return bool(getattr(getattr(self.optimizer, "last_step", None), "rejected", False))

    def look(self) -> Iterator[Event]:
        """Evaluate, off the clock."""
        self.looked = self.steps
        train_loss, train_error = metrics(self.instance, self.instance.train)
        test_loss, test_error = metrics(self.instance, self.instance.test)
        last = getattr(self.optimizer, "last_step", None)
        seen = Evaluation(
            self.name,
            self.seed,
            self.steps,
            self.steps / self.instance.steps_per_epoch,
            self.watch.seconds,
            train_loss,
            train_error,
            test_loss,
            test_error,
            asdict(self.passes),
            {name: number(getattr(last, name)) for name in QUANTITIES} if last is not None else {},
        )
        yield seen
        if self.target.metric != "step_loss":
            yield from self.check(self.target.metric, getattr(seen, self.target.metric))

    def check(self, metric: str, value: float | None) -> Iterator[Event]:
        """`Reached`, the first time that `metric` is the target's and `value` is low enough."""
        if self.solved or metric != self.target.metric or value is None or not value <= self.target.threshold:
            return
        self.solved = True
        yield Reached(self.name, self.seed, self.steps, self.watch.seconds, asdict(self.passes))


def number(value: object) -> float | None:
    """`value` as a float; `None` stays."""
    return None if value is None else float(value)  # type: ignore[arg-type]


def warm_up(problem: Problem, entries: Sequence[Entry], draw: Draw, device: torch.device) -> dict[str, float]:
    """Let every optimiser take two steps on a copy that is thrown away, and say how many seconds each took for them.

    First steps load code, compile kernels and start threads, which no run is charged for.
    """
    took = {}
    with replayed(RandomState.seeded(0, device)), warnings.catch_warnings():
        warnings.simplefilter("ignore", StepRejected)
        for entry in entries:
            training = Training(entry, problem, draw(0), 0, device)
            for _ in range(WARM_UP_STEPS):
                training.step(training.instance.epoch(0))
            list(training.look())
            took[entry.name] = training.watch.seconds
    return took


@dataclass(frozen=True)
class Round:
    """The runs of one seed, which are made together."""

    seed: int
    entries: list[Entry]


def rounds(
    entries: Sequence[Entry], seeds: Sequence[int], over: Collection[tuple[str, int]] = frozenset()
) -> list[Round]:
    """What is to be run, without what is `over`; which optimiser goes first changes from seed to seed."""
    found = []
    for position, seed in enumerate(seeds):
        first = position % len(entries)
        turn = [entry for entry in (*entries[first:], *entries[:first]) if (entry.name, seed) not in over]
        if turn:
            found.append(Round(seed, turn))
    return found


def run(
    problem: Problem,
    entries: Sequence[Entry],
    draw: Draw,
    *,
    epochs: int | None,
    seeds: Sequence[int],
    device: torch.device,
    seconds: float | None = None,
) -> Iterator[Event]:
    """Train every entry with every seed, and yield what happens as it happens."""
    for each in rounds(entries, seeds):
        yield from run_round(problem, each, draw, epochs=epochs, device=device, seconds=seconds)


def run_round(
    problem: Problem,
    each: Round,
    draw: Draw,
    *,
    epochs: int | None,
    device: torch.device,
    seconds: float | None = None,
) -> Iterator[Event]:
    """Train the entries of one round, each for that many epochs or seconds.

    All advance together, evaluation by evaluation, so that a machine that gets slower or faster does so for all of
    them. Each run has torch's global random numbers to itself.
    """
    start = RandomState.seeded(each.seed, device)
    live = [
        Member(Training(entry, problem, draw(each.seed), each.seed, device).events(epochs, seconds), start)
        for entry in each.entries
    ]
    while live:
        for member in list(live):
            event = member.advance()
            if event is None:
                live.remove(member)
            else:
                yield event


@dataclass
class Member:
    """A run among others, with its own stream of torch's global random numbers."""

    events: Iterator[Event]
    random: RandomState

    def advance(self) -> Event | None:
        """The run's next event; `None` when it is over."""
        with replayed(self.random), warnings.catch_warnings():
            warnings.simplefilter("ignore", StepRejected)
            event = next(self.events, None)
            self.random = RandomState.now(self.random.device)
        return event
