"""How much a method's result depends on its searched setting: one row of axes for learning rates, one for dampings."""

from __future__ import annotations

import io
from math import isnan, nan
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from quadric.bench.records import Record
from quadric.report.figures import COLOURS, LINES, MARKERS, STYLE, below
from quadric.report.summary import entries

NAME = "sensitivity"
TITLE = "Sensitivity to the searched setting"
LABELS = {"lr": "learning rate η", "damping": "damping λ", "radius": "radius Δ"}
Try = tuple[float, int, float | None, float | None]
"""A setting, the seeds that missed the target with it, mean steps to the target, mean final train loss."""


def draw_sensitivity(record: Record) -> bytes | None:
    """Steps to the target and final train loss against each searched setting, as a PNG; `None` where none was searched.

    The values are those of the search, with seeds of its own. The ring marks the setting that was chosen.
    """
    searched = [(i, entry) for i, entry in enumerate(entries(record)) if entry["search"]]
    if not searched:
        return None
    settings = [name for name in LABELS if any(entry["search"]["setting"] == name for _, entry in searched)]
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(10, 0.6 + 3.8 * len(settings)), layout="constrained")
        grid = figure.subplots(len(settings), 2, squeeze=False)
        for (left, right), setting in zip(grid, settings, strict=True):
            own = [(i, entry) for i, entry in searched if entry["search"]["setting"] == setting]
            reached = [steps for _, entry in own for _, missed, steps, _ in tries(entry) if steps and not missed]
            top = 1.3 * max(reached, default=1)
            for position, entry in own:
                draw_steps(left, entry, position, top)
                draw_loss(right, entry, position)
            left.axhline(top, color="#666666", linestyle=(0, (1, 2)), linewidth=1.2)
            left.annotate(
                "missed", (1, top), xycoords=("axes fraction", "data"), ha="right", va="bottom", color="#666666"
            )
            left.set_ylim(0.8 * min(reached, default=0), 1.1 * top)
            left.set_ylabel("steps to the target")
            right.set_yscale("log")
            right.set_ylabel("final train loss")
            for axes in (left, right):
                axes.set_xscale("log")
                axes.set_xlabel(LABELS[setting])
        figure.suptitle(record.header.problem["name"], x=0.01, ha="left", fontweight="bold")
        named = [zip(*axes.get_legend_handles_labels(), strict=True) for axes in grid[:, 0]]
        handles = {label: handle for pairs in named for handle, label in pairs}
        figure.legend(handles.values(), handles, **below(list(handles)))
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", dpi=160, metadata={"Software": "quadric"})
    return buffer.getvalue()


def tries(entry: dict[str, Any]) -> list[Try]:
    """What the search tried, by setting."""
    return sorted((float(value), *seen) for value, seen in entry["search"]["tried"].items())


def draw_steps(axes: Axes, entry: dict[str, Any], position: int, top: float) -> None:
    """Steps to the target; settings with which a seed missed it are hollow, at the top, and in no line."""
    hits = [(value, nan if missed or steps is None else steps) for value, missed, steps, _ in tries(entry)]
    draw(axes, entry, position, hits)
    misses = [value for value, steps in hits if isnan(steps)]
    axes.plot(misses, [top] * len(misses), **{**look(position), "linestyle": "", "markerfacecolor": "white"})


def draw_loss(axes: Axes, entry: dict[str, Any], position: int) -> None:
    """Final train loss, where it is finite."""
    draw(axes, entry, position, [(value, loss) for value, _, _, loss in tries(entry) if loss is not None])


def draw(axes: Axes, entry: dict[str, Any], position: int, points: list[tuple[float, float]]) -> None:
    """One method's line, with a ring around the chosen setting."""
    axes.plot([v for v, _ in points], [result for _, result in points], label=entry["name"], **look(position))
    chosen = entry["hyper"][entry["search"]["setting"]]
    ring = [point for point in points if point[0] == chosen]
    if ring:
        axes.plot(*ring[0], "o", markersize=11, markerfacecolor="none", color=look(position)["color"])


def look(position: int) -> dict[str, Any]:
    """How the method at that position is drawn in every figure."""
    return {
        "color": COLOURS[position % len(COLOURS)],
        "linestyle": LINES[position % len(LINES)],
        "marker": MARKERS[position % len(MARKERS)],
    }
