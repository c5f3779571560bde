"""The settings and targets that comparisons use: found by the committed search of `tuning.py`, read from its result."""

from __future__ import annotations

import json
import math
from functools import cache
from importlib.resources import files
from pathlib import Path
from statistics import median
from typing import Any

from torch import nn

from quadric import optim
from quadric.bench import records
from quadric.bench.runner import Entry
from quadric.bench.search import records as searches
from quadric.core.literal import literal
from quadric.core.records import FILE_NAME
from quadric.objective import Objective
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


def without_search(name: str) -> Entry | None:
    """`name` with settings of its own or with its defaults; `None` where it is one that is tuned.

    Raises ValueError for settings that are none.
    """
    if ":" in name:
        return Entry(name, settings(name), "as given")
    method, at, variant = name.partition("@")
    if at and variant != "tuned":
        raise ValueError(f"Expected {method} or {method}@tuned, got {name!r}.")
    return None if at or method in FIRST_ORDER else Entry(name, origin="no search, its defaults")


def entry(problem: Problem, name: str) -> Entry:
    """`name` as a comparison on `problem` runs it: with its searched setting, with its own defaults, or as it says.

    First-order methods are tuned, the others run as they are, unless the name ends with "@tuned" or with settings of
    its own, "sgd:lr=0.1:momentum=0.9". Raises ValueError for settings that are none, and where a search is missing.
    """
    if own := without_search(name):
        return own
    method, at, _ = name.partition("@")
    found = searched()["problems"].get(problem.label, {}).get("optimizers", {}).get(method)
    if found is None and at:
        raise ValueError(
            f"No search was done for {method} on {problem.label}: "
            f"`python -m quadric.bench.tuning {problem.label} --methods {method}` does one."
        )
    if found is None and problem.unsearched:
        scale = f" --scale {problem.scale}" if problem.scale else ""
        raise ValueError(
            f"No learning rate was searched for {method} on {problem.label}: {problem.unsearched}. Give one, as in "
            f"{method}:lr=0.1, or search for it: `quadric tune --problem {problem.name}{scale} --optimizer {method} "
            f"--space lr=log:1e-4:10 --out DIR`."
        )
    if found is None:
        return Entry(name, origin="its defaults, no search was done for this problem")
    setting = tuned_setting(method)
    search = {"setting": setting, "tried": found["tried"]}
    return Entry(name, {setting: found[setting]}, "searched, see learning_rates.json", "tuned", search)


def entry_from(problem: Problem, name: str, folder: Path) -> Entry:
    """`name` as a comparison runs it with the settings that `quadric tune` found: its record is in `folder`/METHOD.

    First-order methods are tuned, the others run as they are, unless the name ends with "@tuned" or with settings of
    its own. Raises ValueError where there is no such record, or one of another problem or method, or one in which
    nothing finished.
    """
    if own := without_search(name):
        return own
    method = name.partition("@")[0]
    path = folder / method / FILE_NAME
    if not path.exists():
        raise ValueError(f"{folder} has no search for {method}: `quadric tune --out {folder / method}` makes one.")
    record = searches.read(path)
    search = record.header["search"]
    if (search["problem"], search["optimiser"]) != (problem.label, method):
        raise ValueError(
            f"{path} is of {search['optimiser']} on {search['problem']}, not of {method} on {problem.label}."
        )
    if not record.finished:
        raise ValueError(f"{path} has no trial that finished, so there is no setting to run {method} with.")
    origin = f"quadric tune, the best of {len(record.trials)} trials in {search['space']}, by {search['judged by']}"
    return Entry(name, dict(record.finished[0].hyper), origin, "tuned")


def target_from(problem: Problem, directory: Path) -> Target:
    """The target that a recorded comparison sets: the median of what the runs of its one method ended with.

    A run that diverged counts as infinite. Raises ValueError where the record is of another problem, of several
    methods, has a run without an end, or where most diverged.
    """
    record = records.read(directory / FILE_NAME)
    names = [entry["name"] for entry in record.header.optimizers]
    of = record.header.problem["name"], record.header.problem.get("scale", "")
    if of != (problem.name, problem.scale) or len(names) != 1:
        which = f"{', '.join(names)} on {record.header.title}"
        raise ValueError(f"A target for {problem.label} comes from a record of one method on it, not of {which}.")
    if any(run.end is None for run in record.runs):
        raise ValueError(f"{directory} is not finished: a run in it has no end.")
    metric = problem.target.metric
    ends = [math.inf if run.status == "diverged" else getattr(run.evaluations[-1], metric) for run in record.runs]
    if math.isinf(median(ends)):
        raise ValueError(f"Most runs of {names[0]} diverged, so there is no target in {directory}.")
    origin = (
        f"the median over {len(ends)} re-runs of the best tuned first-order method, {names[0]}, of what it has reached "
        f"after {max(run.end.seconds for run in record.runs if run.end):.3g} s"
    )
    return Target(metric, float(f"{median(ends):.4g}"), origin)


def settings(name: str) -> dict[str, Any]:
    """The settings behind a method's name: "momentum:lr=0.1:nesterov=true" has two.

    Raises:
        ValueError: a part is not of the form name=value, or the method has no such setting.
    """
    method, *parts = name.split(":")
    found = {}
    for part in parts:
        setting, equals, value = (text.strip() for text in part.partition("="))
        if not (setting and equals and value) or setting in found:
            raise ValueError(f"Expected settings as in {method}:lr=0.1, each once, got {name!r}.")
        found[setting] = literal(value)
    try:
        optim.create(method, Objective(nn.Linear(1, 1), nn.MSELoss()), **found)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name}: {error}") from error
    return found


def target(problem: Problem) -> Target:
    """What comparisons have to reach: what tuned first-order methods did reach, else the problem's own target."""
    baseline = searched()["problems"].get(problem.label, {}).get("baseline")
    if baseline is None:
        return problem.target
    origin = (
        f"the median over {len(baseline['reruns'])} re-runs of the best tuned first-order method, {baseline['method']} "
        f"with lr {baseline['lr']:g}, after {baseline['epoch']:g} of {baseline['epochs']:g} epochs"
    )
    return Target(problem.target.metric, baseline["threshold"], origin)
