"""The report of a search: the best settings, what the others say of it, and a figure of the sensitivity."""

from __future__ import annotations

import io
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter

from quadric.bench.continuation import mixtures
from quadric.bench.search.records import Found, Trial
from quadric.bench.search.space import Dimension, Range, parse
from quadric.report.figures import STYLE
from quadric.report.tables import Cell, ResultTable, number, plain

ROWS = 10
"""Trials in the table."""
COLUMNS = 3
WIDE = 5.0
"""Where the worst is so many times the best, the metric is on a logarithmic scale."""
EDGE = 0.02
"""A best value within this share of a range from one of its ends is said to lie there."""


def table(found: Found) -> ResultTable:
    """The best trials; the notes say how sure the best is, which hyper-parameters matter, and how to use it."""
    search, finished = found.header["search"], found.finished
    names = [each.name for each in parse(search["space"])]
    title = f"{search['optimiser']} on {search['problem']}: {number(len(found.trials), 'trial')}"
    return ResultTable(
        title,
        ["trial", *names, f"{search['metric']}", "seconds"],
        [row(trial, names) for trial in finished[:ROWS]],
        notes(found) if finished else [],
        verdict=f"Use it: {code(found)}" if finished else "",
    )


def row(trial: Trial, names: list[str]) -> list[Cell]:
    """One line of the table."""
    error = f"± {plain(trial.error)}" if trial.error is not None else ""
    values = [Cell(shown(trial.hyper[name])) for name in names]
    return [Cell(str(trial.number)), *values, Cell(plain(trial.value), error), Cell(plain(trial.seconds))]


def notes(found: Found) -> list[str]:
    """What a reader has to know."""
    search, best = found.header["search"], found.finished[0]
    spread = "one run a setting, so its spread is not known: --folds or --seeds tell"
    if best.error is not None:
        spread = f"± {plain(best.error)} (standard error over {len(best.scores)} runs)"
    unseen = "" if on_train(found) else "; the search has not seen the test examples"
    lines = [
        f"Best: {search['metric']} {plain(best.value)}, {spread}. Judged by {search['judged by']}{unseen}. "
        "The best of many looks better than it is.",
        *edges(found),
    ]
    if best.error is not None and len(found.finished) > 1:
        lines.insert(
            1,
            f"Of the {len(found.finished) - 1} other finished trials {len(found.equals) - 1} can't be told from it "
            f"(paired t-test over the runs, 5 %){reach(found)}.",
        )
    if len(found.importance) > 1:
        shares = ", ".join(f"{name} {share:.0%}" for name, share in found.importance.items())
        lines.append(f"Importance (share of the variance, functional ANOVA over the finished trials): {shares}.")
    elif len(searched(found)) > 1:
        lines.append("Importance: not known, too few trials finished or all are alike.")
    for status in ("pruned", "diverged"):
        count = sum(trial.status == status for trial in found.trials)
        if count:
            lines.append(f"{status.capitalize()}: {count} of {len(found.trials)} trials.")
    damaged = [f"The record is damaged: {found.damage}."] if found.damage else []
    return [*lines, *mixtures(found.environments), *damaged]


def on_train(found: Found) -> bool:
    """Whether the settings were judged on what they were trained on."""
    return str(found.header["search"]["judged by"]).startswith("train")


def reach(found: Found) -> str:
    """The values of the best and of what can't be told from it."""
    ranges = []
    for each in searched(found):
        values = [trial.hyper[each.name] for trial in found.equals]
        if isinstance(each, Range) and len(values) > 1:
            ranges.append(f"{each.name} from {shown(min(values))} to {shown(max(values))}")
    return f": {', '.join(ranges)}" if ranges else ""


def edges(found: Found) -> list[str]:
    """A sentence where the best value lies at an end of its range."""
    best = found.finished[0].hyper
    ends = [each.name for each in searched(found) if isinstance(each, Range) and at_end(each, float(best[each.name]))]
    return [f"The best {' and '.join(ends)} lies at an end of its range: search further there."] if ends else []


def at_end(each: Range, value: float) -> bool:
    """Whether a value is an end of its range, or next to it."""
    share = each.share(value)
    return not EDGE < share < 1 - EDGE


def searched(found: Found) -> list[Dimension]:
    """The parts of the space that have more than one value."""
    return [each for each in parse(found.header["search"]["space"]) if len(each.ends) > 1]


def code(found: Found) -> str:
    """The line of Python that makes the optimiser with the best settings."""
    return creating(found.header["search"]["optimiser"], found.finished[0].hyper)


def creating(method: str, hyper: dict[str, Any]) -> str:
    """The line of Python that makes that optimiser with those settings."""
    settings = "".join(f", {name}={python(value)}" for name, value in hyper.items())
    return f'quadric.optim.create("{method}", objective{settings})'


def python(value: Any) -> str:
    """A value as it is written in Python."""
    return f'"{value}"' if isinstance(value, str) else repr(value)


def shown(value: Any) -> str:
    """A value of a hyper-parameter."""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def draw(found: Found) -> bytes | None:
    """The metric against each hyper-parameter, and their importances; `None` where no trial finished."""
    if not found.finished:
        return None
    dimensions, search = searched(found), found.header["search"]
    count = len(dimensions) + (len(found.importance) > 1)
    columns, rows = min(count, COLUMNS), -(-count // COLUMNS)
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(max(5.0, 3.6 * columns), 3.4 * rows + 0.6), layout="constrained")
        panels = list(figure.subplots(rows, columns, squeeze=False).flat)
        for axes, each in zip(panels, dimensions, strict=False):
            draw_values(axes, found, each)
            axes.set_ylabel(f"{search['metric']}, {'train' if on_train(found) else 'held out'}")
        if len(found.importance) > 1:
            axes = panels[len(dimensions)]
            bars = list(found.importance.items())[::-1]
            axes.barh([name for name, _ in bars], [share for _, share in bars], color="#666666")
            axes.set_xlabel("importance")
            axes.set_xlim(0, 1)
        for axes in panels[count:]:
            axes.set_axis_off()
        title = f"{search['optimiser']} on {search['problem']}"
        figure.suptitle(title, x=0.01, ha="left", fontweight="bold")
        handles, labels = panels[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=4)
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", dpi=160, metadata={"Software": "quadric"})
    return buffer.getvalue()


def draw_values(axes: Axes, found: Found, each: Dimension) -> None:
    """Every trial at its value of one hyper-parameter; those that were given up are crosses at the top.

    Marks differ in shape and in grey, and not in colour alone.
    """
    best, *others = found.finished
    place: dict[str, float] = {}
    if not isinstance(each, Range):
        place = {str(value): float(i) for i, value in enumerate(each.values)}
        axes.set_xticks(list(place.values()), list(place))
        axes.set_xlim(-0.5, len(place) - 0.5)
    else:
        axes.set_xscale("log" if each.log else "linear")
        if each.log:
            axes.xaxis.set_minor_formatter(NullFormatter())  # within a decade matplotlib labels them all
        axes.set_xlim(each.low, each.high)

    def across(trials: list[Trial]) -> list[float]:
        return [place[str(t.hyper[each.name])] if place else float(t.hyper[each.name]) for t in trials]

    def points(trials: list[Trial], label: str, **style: Any) -> None:
        errors = [trial.error or 0.0 for trial in trials]
        axes.errorbar(
            *(across(trials), [t.value for t in trials], errors), label=label, linestyle="", elinewidth=0.8, **style
        )

    equal = {trial.number for trial in found.equals}
    worse = [trial for trial in others if trial.number not in equal]
    points(worse, "finished", marker="o", color="#8a8a8a")
    points([t for t in others if t.number in equal], "not told from the best", marker="s", color="#333333")
    points([best], "best", marker="*", color="black", markersize=14)
    given_up = [trial for trial in found.trials if not trial.scores]
    if others and 0 < best.value < others[-1].value / WIDE:
        axes.set_yscale("log")
    if given_up:
        axes.plot(
            across(given_up),
            [1.0] * len(given_up),
            "x",
            color="#666666",
            transform=axes.get_xaxis_transform(),
            clip_on=False,
            label="pruned or diverged",
        )
    axes.set_xlabel(each.name)
