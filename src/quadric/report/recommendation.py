"""The report of a search over methods: who is recommended, how sure that is, and what every method did."""

from __future__ import annotations

import io
import math
from statistics import fmean, stdev

import matplotlib
from matplotlib.figure import Figure

from quadric.bench.continuation import mixtures
from quadric.bench.search.recommendation import Attempt, Race, Recommendation, scores
from quadric.report.figures import STYLE
from quadric.report.summary import settings
from quadric.report.tables import NOT_MEASURED, Cell, ResultTable, number, plain
from quadric.report.tuning import creating
from quadric.report.verdict import listed


def table(race: Race) -> ResultTable:
    """A row for each method, finalists first; the verdict says who is recommended, how sure, and how to use it."""
    search, plan = race.header["search"], race.plan
    seeds = number(plan.repeats, "fresh seed")
    return ResultTable(
        f"Methods for {search['problem']}: {number(len(race.attempts), 'run')} of {search['a run']}",
        ["method", "tries", "best setting", f"{search['metric']}, search", f"{search['metric']}, {seeds}"],
        [row(race, method) for method in race.order],
        notes(race),
        verdict(race),
    )


def row(race: Race, method: str) -> list[Cell]:
    """One method."""
    tried, best, finals = race.searched(method), race.best(method), race.repeated(method)
    lost = sum(each.score is None for each in tried)
    return [
        Cell(method),
        Cell(str(len(tried)), f"{lost} given up" if lost else ""),
        Cell(settings(best.hyper) if best else NOT_MEASURED),
        Cell(plain(best.score) if best and best.score is not None else "diverged"),
        final(finals),
    ]


def final(finals: list[Attempt]) -> Cell:
    """Mean and standard error over the fresh seeds."""
    values = scores(finals)
    if not values:
        return Cell("not in the finals")
    if diverged := sum(map(math.isinf, values)):
        return Cell("diverged", f"with {diverged} of {len(values)} seeds")
    error = f"± {plain(stdev(values) / math.sqrt(len(values)))}" if len(values) > 1 else ""
    return Cell(plain(fmean(values)), error)


def notes(race: Race) -> list[str]:
    """What a reader has to know."""
    search, plan = race.header["search"], race.plan
    rungs = ", then ".join(f"{rung.methods} methods × {rung.tries}" for rung in plan.rungs)
    finalists = number(plan.finalists, "finalist")
    lines = [
        f"Sequential halving: tries of {rungs}; then {finalists} with the best setting and "
        f"{number(plan.repeats, 'seed')} that the search has not seen. ± is a standard error.",
        f"Judged by {search['judged by']}. A method's first try is its own defaults.",
        "The certainty is of these settings, among the finalists: a method that left early may have had bad luck, and "
        "more tries might find better settings for any.",
        *(f"Left out: {name}, {reason}" for name, reason in race.header["left out"].items()),
    ]
    damaged = [f"The record is damaged: {race.damage}."] if race.damage else []
    return [*lines, *mixtures(race.environments), *damaged]


def verdict(race: Race) -> str:
    """Who is recommended, how sure that is, and the line of Python to use it."""
    found = race.recommendation
    if found is None:
        over = sum(each.stage == "final" for each in race.attempts) == race.plan.finalists * race.plan.repeats
        return (
            "Nothing can be recommended: every finalist diverged with some seed."
            if over
            else "Nothing can be recommended yet: no finalist has been run again."
        )
    return f"{certainty(race, found)}\nUse it: {creating(found.method, found.hyper)}"


def certainty(race: Race, found: Recommendation) -> str:
    """How sure the recommendation is; a tie is called one."""
    seeds = number(len(race.repeated(found.method)), "seed")
    if len([method for method in race.order if race.repeated(method)]) < 2:
        return f"Recommended: {found.method}, the only one with a setting that works."
    if not found.ties:
        return (
            f"Recommended: {found.method}. It is the best of the finalists with a probability of {share(found.sure)} "
            f"or more ({seeds}, paired)."
        )
    rivals = [f"{name} ({share(chance)})" for name, chance in found.ties.items()]
    return (
        f"Recommended: {found.method}, but it is a tie: it has the lowest mean, and {seeds} do not tell it from "
        f"{listed(rivals)}; in brackets the probability of being truly better. More --seeds may decide."
    )


def share(probability: float) -> str:
    """A probability in per cent, which is never a whole 100."""
    return f"{min(100 * probability, 99.9):.3g} %"


def draw(race: Race) -> bytes | None:
    """Every run of each method on one line: those of the search, and those of the finals; `None` without any."""
    if not any(each.score is not None for each in race.attempts):
        return None
    order = race.order
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(8, 1.4 + 0.45 * len(order)), layout="constrained")
        axes = figure.subplots()
        for label, marker, colour, runs in (
            ("search", "o", "#9a9a9a", race.searched),
            ("fresh seeds", "D", "black", race.repeated),
        ):
            points = [(e.score, y) for y, method in enumerate(order) for e in runs(method) if e.score is not None]
            across, down = [score for score, _ in points], [place for _, place in points]
            axes.plot(across, down, linestyle="", marker=marker, color=colour, label=label)
        if all(each.score > 0 for each in race.attempts if each.score is not None):
            axes.set_xscale("log")
        axes.set_yticks(range(len(order)), order)
        axes.invert_yaxis()
        axes.set_xlabel(f"{race.header['search']['metric']} after {race.header['search']['a run']}")
        figure.suptitle(race.header["search"]["problem"], x=0.01, ha="left", fontweight="bold")
        figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=2)
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", dpi=160, metadata={"Software": "quadric"})
    return buffer.getvalue()
