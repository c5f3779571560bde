"""The search for settings, and the targets that come of it: `python -m quadric.bench.tuning [PROBLEM ...]` repeats it.

Every method has one number searched for, its learning rate or its damping, in the same space and with the same eight
tries: 1e-4, 1e-3, … 10, then the best of them divided and multiplied by about 3 (1, 3, 10 are the steps of the scale).
The seeds are none that comparisons use by default. The best setting is the one with the fewest seeds that miss the
target, where a run that passes the target and ends above it has missed it; then with the fewest steps to it, mean over
seeds; then with the lowest final train loss. So every method is tuned for what it is judged by.

On problems with test examples, but for the digits, the target comes from the first-order methods: their settings are
first scored by the target's metric after three quarters of the run, the best method is run again with five fresh seeds,
and the median of what it has reached by then is the target.
"""

from __future__ import annotations

import argparse
import json
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from itertools import islice
from pathlib import Path
from statistics import fmean, median
from typing import Any

import torch

from quadric import problems
from quadric.bench.environment import describe
from quadric.bench.rates import FILE, FIRST_ORDER, tuned_setting
from quadric.bench.records import End, Evaluation, Event, Reached
from quadric.bench.runner import Entry, run
from quadric.core.records import write_atomically
from quadric.problems import Instance, Problem, Target
from quadric.problems.problem import Draw

COARSE = (1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0)
SEEDS = (1001, 1002)
RERUNS = (2001, 2002, 2003, 2004, 2005)
TARGET_AT = 0.75
"""The share of a run after which the best first-order method sets the target: those who do as well have time left."""
EPOCHS = {
    "mnist-mlp": 2,
    "mnist-autoencoder": 6,
    "fashion-mnist-mlp": 3,
    "fashion-mnist-cnn": 0.25,
    "shakespeare-transformer": 0.25,
}
"""Epochs of a try, where they are fewer than the problem's default."""
STATED = ("digits-mlp", "digits-cnn")
"""Problems with test examples that keep the target they state: one of the first epochs, which a demonstration sees."""
SLOW = (
    *EPOCHS, "rosenbrock-u1", "rosenbrock-u3", "rosenbrock-u1-squared", "rosenbrock-u3-squared", "width-depth-256x12"
)  # fmt: skip
"""Problems on which only the first seed is tried."""


@dataclass(frozen=True, order=True)
class Score:
    """How good a setting is; smaller is better, field by field."""

    missed: int
    steps: float
    loss: float


def neighbours(rate: float) -> tuple[float, float]:
    """Half a decade below and above: 0.01 has 0.003 and 0.03."""
    return float(f"{0.3 * rate:.0e}"), float(f"{3 * rate:.0e}")


def search(score: Callable[[float], Score]) -> tuple[float, dict[float, Score]]:
    """The best setting and the score of every one that was tried."""
    tried = {rate: score(rate) for rate in COARSE}
    tried |= {rate: score(rate) for rate in neighbours(best(tried))}
    return best(tried), dict(sorted(tried.items()))


def best(tried: dict[float, Score]) -> float:
    """The setting with the smallest score; the smaller of equals."""
    return min(tried, key=lambda rate: (tried[rate], rate))


@dataclass(eq=False)
class Tries:
    """Runs on one problem, each made once: `course(method, value, seed)` has the events of one."""

    problem: Problem
    draw: Draw
    epochs: int

    @cache  # noqa: B019 - as long as the search
    def course(self, method: str, value: float, seed: int) -> list[Event]:
        """What happens with the method's searched setting at `value`."""
        entry = Entry(method, {tuned_setting(method): value})
        cpu = torch.device("cpu")
        return list(run(self.problem, [entry], self.draw, epochs=self.epochs, seeds=[seed], device=cpu))

    def score(self, method: str, seeds: Sequence[int], target: Target, value: float) -> Score:
        """How `method` with that setting does."""
        return judged([self.course(method, value, seed) for seed in seeds], target)

    def attained(self, method: str, seed: int, value: float) -> float:
        """The target's metric after `TARGET_AT` of the run; infinite where it diverged."""
        found = math.inf
        for event in self.course(method, value, seed):
            if isinstance(event, Evaluation) and event.epoch <= TARGET_AT * self.epochs:
                found = number(getattr(event, self.problem.target.metric))
            elif isinstance(event, End) and event.status == "diverged":
                return math.inf
        return found


def judged(courses: Sequence[list[Event]], target: Target) -> Score:
    """The score of one setting, from its runs."""
    steps, losses = [], []
    for events in courses:
        reached, loss, last = math.inf, math.inf, math.inf
        for event in events:
            match event:
                case Evaluation():
                    loss = number(event.train_loss)
                    if target.metric != "step_loss":
                        last = number(getattr(event, target.metric))
                        reached = min(reached, event.step) if last <= target.threshold else reached
                case Reached(step=step) if target.metric == "step_loss":
                    reached, last = step, target.threshold  # such a run ends here
                case End(status="diverged"):
                    loss = last = math.inf
        losses.append(loss)
        if reached < math.inf and last <= target.threshold:
            steps.append(reached)
    return Score(len(courses) - len(steps), fmean(steps) if steps else math.inf, fmean(losses))


def number(value: float | None) -> float:
    """`value`; infinite where it is not finite, or not there."""
    return value if value is not None and math.isfinite(value) else math.inf


def shortened(draw: Draw, epochs: float) -> Draw:
    """`draw` without test examples, which a search must not see, and with a shorter epoch if `epochs` is below 1."""

    def drawn(seed: int) -> Instance:
        instance = draw(seed)
        steps = math.ceil(min(epochs, 1) * instance.steps_per_epoch)
        return replace(instance, epoch=lambda index: islice(instance.epoch(index), steps), test=())

    return drawn


def baseline(tries: Tries, seeds: Sequence[int]) -> dict[str, Any]:
    """The target that first-order methods set, and how."""

    def attained(method: str, value: float) -> Score:
        return Score(0, 0.0, median(tries.attained(method, seed, value) for seed in seeds))

    found = {}
    for method in FIRST_ORDER:
        rate, tried = search(partial(attained, method))
        found[method] = rate, tried[rate]
    method = min(found, key=lambda name: found[name][1])
    reruns = [tries.attained(method, seed, found[method][0]) for seed in RERUNS]
    return {
        "metric": tries.problem.target.metric,
        "threshold": stored(median(reruns)),
        "method": method,
        "lr": found[method][0],
        "epoch": TARGET_AT * tries.epochs,
        "epochs": tries.epochs,
        "seeds": list(RERUNS),
        "reruns": [stored(value) for value in reruns],
    }


def tune(name: str, methods: Sequence[str], known: dict[str, Any]) -> dict[str, Any]:
    """The search on one problem, as it is stored. Without first-order methods among `methods`, the known target stays.

    Raises:
        ValueError: there is no search of first-order methods yet, or one with another target.
    """
    problem = problems.labelled(name)
    draw = problem.open(None, torch.device("cpu"))
    epochs = min(problem.epochs, EPOCHS.get(name, problem.epochs))
    seeds = SEEDS[:1] if name in SLOW else SEEDS
    tries = Tries(problem, shortened(draw, epochs), math.ceil(epochs))
    found: dict[str, Any] = {"target": str(problem.target), "epochs": epochs, "seeds": list(seeds), "optimizers": {}}
    if not set(FIRST_ORDER) <= set(methods):
        if not known:
            raise ValueError(f"No search was done on {name} yet: leave --methods out the first time.")
        found |= {**known, "optimizers": dict(known["optimizers"])}
    elif draw(0).test and epochs == problem.epochs and name not in STATED:
        found["baseline"] = baseline(tries, seeds)
    target = problem.target
    if "baseline" in found:
        target = replace(target, threshold=found["baseline"]["threshold"])
        found["target"] = str(target)
        print(f"{name:32}target {target}, by {found['baseline']['method']}", flush=True)
    for method in methods:
        value, tried = search(partial(tries.score, method, seeds, target))
        scores = {f"{v:g}": [s.missed, stored(s.steps), stored(s.loss)] for v, s in tried.items()}
        found["optimizers"][method] = {tuned_setting(method): value, "tried": scores}
        print(f"{name:32}{method:20} {tuned_setting(method)} {value:<8g} {tried[value]}", flush=True)
    return found


def stored(value: float) -> float | None:
    """`value` with six digits; `None` if it is infinite."""
    return float(f"{value:.6g}") if math.isfinite(value) else None


def main(arguments: Sequence[str] | None = None) -> None:
    """Search on the named problems, all if none is named, and store each result beside this file as it is found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("problems", nargs="*", help="NAME or NAME/SCALE; all that are searched, if none is named")
    parser.add_argument("--methods", type=lambda text: text.split(","), default=list(FIRST_ORDER))
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    path = Path(str(FILE))
    every = [problem.label for name in problems.names() for problem in problems.get(name).sizes]
    searched = [label for label in every if not problems.labelled(label).unsearched]
    for name in [problems.labelled(each).label for each in options.problems] or searched:
        done = json.loads(path.read_text(encoding="utf-8"))["problems"] if path.exists() else {}
        found = {**tune(name, options.methods, done.get(name, {})), "environment": describe(torch.device("cpu"))}
        done[name] = found
        content = {
            "rule": " ".join(str(__doc__).split("\n\n", 1)[1].split()),
            "columns of tried": ["seeds that missed the target", "mean steps to the target", "mean final train loss"],
            "problems": {known: done[known] for known in every if known in done},
        }
        write_atomically(path, readable(content).encode())


def readable(content: dict[str, Any]) -> str:
    """`content` as indented JSON with its lists of numbers on one line each."""
    text = json.dumps(content, indent=1, ensure_ascii=False)
    return re.sub(r"\[[^\[\]{}]*\]", lambda match: " ".join(match[0].split()), text) + "\n"


if __name__ == "__main__":
    main()
