"""The learning rates that comparisons use: found by the committed search of `tuning.py`, read from its result."""

from __future__ import annotations

import json
from functools import cache
from importlib.resources import files
from typing import Any

from quadric.bench.runner import Entry

FIRST_ORDER = ("sgd", "momentum", "nesterov", "adagrad", "rmsprop", "adadelta", "adam", "adamw")
FILE = files("quadric.bench") / "learning_rates.json"


@cache
def searched() -> dict[str, Any]:
    """The result of the search."""
    result: dict[str, Any] = json.loads(FILE.read_text(encoding="utf-8"))
    return result


def entry(problem: str, optimizer: str) -> Entry:
    """`optimizer` as a comparison on `problem` runs it: with its searched learning rate, or with its own defaults."""
    if optimizer not in FIRST_ORDER:
        return Entry(optimizer, origin="no search, its defaults")
    found = searched()["problems"].get(problem, {}).get("optimizers", {}).get(optimizer)
    if found is None:
        return Entry(optimizer, origin="its defaults, no search was done for this problem")
    return Entry(optimizer, {"lr": found["lr"]}, "searched, see learning_rates.json")
