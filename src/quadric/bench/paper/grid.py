"""The authors' grid search for SGD with momentum and for Adam: `python -m quadric.bench.paper.grid` repeats it.

Learning rates 0.1, 0.05, 0.01, … 5e-5 with momentum 0.9, 0.95, 0.99, or with β₁ 0.9, 0.99 and β₂ 0.99, 0.999. One run
of full length each; the member with the lowest mean over its last nine losses is chosen, the first of equals. So a
method is chosen for where it ends and judged by when it arrives. The seed is none that the table uses.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from functools import cache
from importlib.resources import files
from itertools import product
from pathlib import Path
from statistics import fmean
from typing import Any

import torch

from quadric.bench.environment import describe
from quadric.bench.paper.columns import COLUMNS, Column
from quadric.bench.paper.side_by_side import Make, side_by_side
from quadric.bench.watch import Watch
from quadric.core.records import write_atomically

FILE = files("quadric.bench.paper") / "grid.json"
SEED = 10_000
LAST = 9
"""So many losses are averaged: the authors' text says ten, their indices take nine."""
RATES = (0.1, 0.05, 0.01, 0.005, 0.001, 0.0005, 0.0001, 0.00005)
MAKE: dict[str, Make] = {"momentum": torch.optim.SGD, "adam": torch.optim.Adam}


def members(method: str) -> Iterator[dict[str, Any]]:
    """The hyper-parameters to try, the learning rate changing fastest."""
    if method == "momentum":
        for momentum, rate in product((0.9, 0.95, 0.99), RATES):
            yield {"lr": rate, "momentum": momentum}
    else:
        for beta2, beta1, rate in product((0.99, 0.999), (0.9, 0.99), RATES):
            yield {"lr": rate, "betas": [beta1, beta2]}


def search(method: str, column: Column, most_steps: int | None = None) -> dict[str, Any]:
    """The member chosen, and the final loss of each."""
    task, tried = column.task, list(members(method))
    instance = task.open(None, torch.device("cpu"))(SEED)
    watches = [Watch(most_steps or task.epochs, keep=True) for _ in tried]
    side_by_side(MAKE[method], [instance] * len(tried), tried, watches)
    finals = [fmean(watch.losses[-LAST:]) for watch in watches]
    best = min(range(len(tried)), key=lambda i: finals[i] if math.isfinite(finals[i]) else math.inf)
    stored = [float(f"{loss:.6g}") if math.isfinite(loss) else None for loss in finals]
    return {"chosen": tried[best], "final losses": stored}


@cache
def found() -> dict[str, Any]:
    """The result of the committed search."""
    result: dict[str, Any] = json.loads(FILE.read_text(encoding="utf-8"))
    return result


def chosen(method: str, column: str) -> dict[str, Any]:
    """The hyper-parameters of a method on the problem called `column`."""
    hyper: dict[str, Any] = found()["problems"][column][method]["chosen"]
    return hyper


def main() -> None:
    """Search for every method and problem, and store the result beside this file."""
    torch.set_num_threads(1)
    results = {}
    for column in COLUMNS:
        results[column.problem] = {method: search(method, column) for method in MAKE}
        for method, result in results[column.problem].items():
            print(f"{column.problem:24}{method:10}{result['chosen']}", flush=True)
    content = {
        "rule": " ".join(str(__doc__).split("\n\n", 1)[1].split()),
        "members": {method: list(members(method)) for method in MAKE},
        "problems": results,
        "environment": describe(torch.device("cpu")),
    }
    write_atomically(Path(str(FILE)), (json.dumps(content, ensure_ascii=False) + "\n").encode())


if __name__ == "__main__":
    main()
