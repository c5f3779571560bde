"""The search for first-order learning rates: `python -m quadric.bench.tuning [PROBLEM ...]` repeats it.

Every method gets the same eight tries on a problem: 1e-4, 1e-3, … 10, then the best of them divided and multiplied by
about 3 (1, 3, 10 are the steps of the scale). The seeds are none that comparisons use by default. The best rate is the
one with the fewest seeds that miss the problem's target, where a run that passes the target and ends above it has
missed it; then with the fewest steps to it, mean over seeds; then with the lowest final train loss. So every method is
tuned for what it is judged by.
"""

from __future__ import annotations

import json
import math
import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from pathlib import Path
from statistics import fmean
from typing import Any

import torch

from quadric import problems
from quadric.bench.environment import describe
from quadric.bench.rates import FILE, FIRST_ORDER
from quadric.bench.records import End, Evaluation, Reached
from quadric.bench.runner import Entry, run
from quadric.core.records import write_atomically
from quadric.problems import Instance, Problem
from quadric.problems.problem import Draw

COARSE = (1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0)
SEEDS = (1001, 1002)
EPOCHS = {"mnist-mlp": 2, "mnist-autoencoder": 6, "fashion-mnist-mlp": 3, "fashion-mnist-cnn": 0.25}
"""Epochs of a try, where they are fewer than the problem's default."""
SLOW = (*EPOCHS, "rosenbrock-u1", "rosenbrock-u3", "rosenbrock-u1-squared", "rosenbrock-u3-squared")
"""Problems on which only the first seed is tried."""


@dataclass(frozen=True, order=True)
class Score:
    """How good a learning rate is; smaller is better, field by field."""

    missed: int
    steps: float
    loss: float


def neighbours(rate: float) -> tuple[float, float]:
    """Half a decade below and above: 0.01 has 0.003 and 0.03."""
    return float(f"{0.3 * rate:.0e}"), float(f"{3 * rate:.0e}")


def search(score: Callable[[float], Score]) -> tuple[float, dict[float, Score]]:
    """The best learning rate and the score of every one that was tried."""
    tried = {rate: score(rate) for rate in COARSE}
    tried |= {rate: score(rate) for rate in neighbours(best(tried))}
    return best(tried), dict(sorted(tried.items()))


def best(tried: dict[float, Score]) -> float:
    """The rate with the smallest score; the smaller rate of equals."""
    return min(tried, key=lambda rate: (tried[rate], rate))


def score(problem: Problem, draw: Draw, method: str, epochs: int, seeds: Sequence[int], rate: float) -> Score:
    """What `method` with the learning rate `rate` reaches on `problem`."""
    entry = Entry(method, {"lr": rate})
    steps, losses = [], []
    for seed in seeds:
        reached, loss, last = math.inf, math.inf, math.inf
        for event in run(problem, [entry], draw, epochs=epochs, seeds=[seed], device=torch.device("cpu")):
            match event:
                case Evaluation(train_loss=float(value)):
                    loss = value if math.isfinite(value) else math.inf
                    last = getattr(event, problem.target.metric, -math.inf)  # step losses end a run, so they hold
                case Reached(step=step):
                    reached = step
                case End(status="diverged"):
                    loss = last = math.inf
        losses.append(loss)
        if reached < math.inf and last <= problem.target.threshold:
            steps.append(reached)
    return Score(len(seeds) - len(steps), fmean(steps) if steps else math.inf, fmean(losses))


def shortened(draw: Draw, epochs: float) -> Draw:
    """`draw` without test examples, which a search must not see, and with a shorter epoch if `epochs` is below 1."""

    def drawn(seed: int) -> Instance:
        instance = draw(seed)
        steps = math.ceil(min(epochs, 1) * instance.steps_per_epoch)
        return replace(instance, epoch=lambda index: islice(instance.epoch(index), steps), test=())

    return drawn


def tune(name: str) -> dict[str, Any]:
    """The search on one problem, as it is stored."""
    problem = problems.get(name)
    draw = problem.open(None, torch.device("cpu"))
    epochs = min(problem.epochs, EPOCHS.get(name, problem.epochs))
    seeds = SEEDS[:1] if name in SLOW else SEEDS
    optimizers = {}
    for method in FIRST_ORDER:
        rate, tried = search(partial(score, problem, shortened(draw, epochs), method, math.ceil(epochs), seeds))
        scores = {f"{lr:g}": [s.missed, stored(s.steps), stored(s.loss)] for lr, s in tried.items()}
        optimizers[method] = {"lr": rate, "tried": scores}
        print(f"{name:32}{method:10} lr {rate:<8g} {tried[rate]}", flush=True)
    return {"target": str(problem.target), "epochs": epochs, "seeds": list(seeds), "optimizers": optimizers}


def stored(value: float) -> float | None:
    """`value` with six digits; `None` if it is infinite."""
    return float(f"{value:.6g}") if math.isfinite(value) else None


def main(names: Sequence[str]) -> None:
    """Search on the named problems, all if none is named, and store each result beside this file as it is found."""
    torch.set_num_threads(1)
    path = Path(str(FILE))
    for name in names or problems.names():
        found = {**tune(name), "environment": describe(torch.device("cpu"))}
        done = {**(json.loads(path.read_text(encoding="utf-8"))["problems"] if path.exists() else {}), name: found}
        content = {
            "rule": " ".join(str(__doc__).split("\n\n", 1)[1].split()),
            "columns of tried": ["seeds that missed the target", "mean steps to the target", "mean final train loss"],
            "problems": {known: done[known] for known in problems.names() if known in done},
        }
        write_atomically(path, readable(content).encode())


def readable(content: dict[str, Any]) -> str:
    """`content` as indented JSON with its lists of numbers on one line each."""
    text = json.dumps(content, indent=1, ensure_ascii=False)
    return re.sub(r"\[[^\[\]{}]*\]", lambda match: " ".join(match[0].split()), text) + "\n"


if __name__ == "__main__":
    main(sys.argv[1:])
