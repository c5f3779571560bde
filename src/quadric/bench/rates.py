"""The settings and targets that comparisons use: found by the committed search of `tuning.py`, read from its result."""

from __future__ import annotations

import json
from functools import cache
from importlib.resources import files
from typing import Any

from quadric.bench.runner import Entry
from quadric.problems import Problem, Target

FIRST_ORDER = ("sgd", "momentum", "nesterov", "adagrad", "rmsprop", "adadelta", "adam", "adamw")
DAMPED = ("curveball", "ekfac", "kfac", "levenberg-marquardt", "newton", "newton-cg", "saddle-free-newton")
FILE = files("quadric.bench") / "learning_rates.json"


def tuned_setting(method: str) -> str:
    """The one number of a method that is searched for: its damping, its radius, or else its learning rate."""
    return "damping" if method in DAMPED else "radius" if method == "trust-region" else "lr"


@cache
def searched() -> dict[str, Any]:
    """The result of the search."""
    result: dict[str, Any] = json.loads(FILE.read_text(encoding="utf-8"))
    return result


def entry(problem: str, name: str) -> Entry:
    """`name` as a comparison on `problem` runs it: with its searched setting, or with its own defaults.

    First-order methods are tuned, the others run as they are, unless the name ends with "@tuned". Raises ValueError for
    such a name where no search was done.
    """
    method, at, variant = name.partition("@")
    if at and variant != "tuned":
        raise ValueError(f"Expected {method} or {method}@tuned, got {name!r}.")
    if method not in FIRST_ORDER and not at:
        return Entry(name, origin="no search, its defaults")
    found = searched()["problems"].get(problem, {}).get("optimizers", {}).get(method)
    if found is None and at:
        raise ValueError(
            f"No search was done for {method} on {problem}: "
            f"`python -m quadric.bench.tuning {problem} --methods {method}` does one."
        )
    if found is None:
        return Entry(name, origin="its defaults, no search was done for this problem")
    setting = tuned_setting(method)
    search = {"setting": setting, "tried": found["tried"]}
    return Entry(name, {setting: found[setting]}, "searched, see learning_rates.json", "tuned", search)


def target(problem: Problem) -> Target:
    """What comparisons have to reach: what tuned first-order methods did reach, else the problem's own target."""
    baseline = searched()["problems"].get(problem.name, {}).get("baseline")
    if baseline is None:
        return problem.target
    origin = (
        f"the median over {len(baseline['reruns'])} re-runs of the best tuned first-order method, {baseline['method']} "
        f"with lr {baseline['lr']:g}, after {baseline['epoch']:g} of {baseline['epochs']:g} epochs"
    )
    return Target(problem.target.metric, baseline["threshold"], origin)
