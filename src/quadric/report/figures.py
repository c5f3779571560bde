"""The pictures of a comparison as PNG files: one look for all, told apart by colour, line and marker."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator

from quadric.bench.records import Evaluation, Record
from quadric.report.summary import Point, curve, entries

Metric = Callable[[Evaluation], float | None]

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#000000")
"""Okabe and Ito's palette without its yellow."""
LINES = ("-", "--", "-.", ":")
MARKERS = "osD^vPX*"
MARKERS_PER_LINE = 8
STYLE: Any = {
    "font.size": 10.0,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e3e3e3",
    "grid.linewidth": 0.6,
    "lines.linewidth": 1.6,
    "lines.markersize": 5.0,
    "legend.frameon": False,
}


@dataclass(frozen=True)
class Panel:
    """One set of axes: what is drawn against what; `name` is what a target calls the metric."""

    label: str
    metric: Metric
    against: str = "steps"
    percent: bool = False
    name: str = ""
    log: bool = True
    """Whether the scale is logarithmic, if the values allow it."""


def train_loss(evaluation: Evaluation) -> float | None:
    """The train loss."""
    return evaluation.train_loss


def test_loss(evaluation: Evaluation) -> float | None:
    """The test loss."""
    return evaluation.test_loss


def test_error(evaluation: Evaluation) -> float | None:
    """The test error."""
    return evaluation.test_error


def quantity(name: str) -> Metric:
    """What our own optimisers report under `name`."""
    return lambda evaluation: evaluation.quantities.get(name)


PICTURES = {
    "train_loss": [Panel("train loss", train_loss, against, name="train_loss") for against in ("steps", "seconds")],
    "test_loss": [Panel("test loss", test_loss, against) for against in ("steps", "seconds")],
    "test_error": [Panel("test error", test_error, against, True, "test_error") for against in ("steps", "seconds")],
    "quantities": [
        Panel("damping λ", quantity("damping")),
        Panel("momentum ρ", quantity("momentum"), log=False),
        Panel("step size β", quantity("step_size")),
    ],
}
TITLES = {
    "train_loss": "Train loss",
    "test_loss": "Test loss",
    "test_error": "Test error",
    "quantities": "What the optimisers chose for themselves",
}


def draw_all(record: Record) -> dict[str, bytes]:
    """PNG files by name, without those that would be empty."""
    pictures = {name: draw(record, panels) for name, panels in PICTURES.items()}
    return {name: picture for name, picture in pictures.items() if picture is not None}


def draw(record: Record, panels: list[Panel]) -> bytes | None:
    """The panels side by side with one legend below them; `None` if there is nothing to draw."""
    drawn = {
        position: [curve(record.runs_of(entry["name"]), panel.metric) for panel in panels]
        for position, entry in enumerate(entries(record))
    }
    drawn = {position: curves for position, curves in drawn.items() if any(curves)}
    if not drawn:
        return None
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(10, 4.4), layout="constrained")
        for column, (axes, panel) in enumerate(zip(figure.subplots(1, len(panels)), panels, strict=True)):
            for position, curves in drawn.items():
                draw_curve(axes, curves[column], panel, position, entries(record)[position]["name"])
            finish(axes, panel, record.header.problem["target"])
        figure.suptitle(record.header.title, x=0.01, ha="left", fontweight="bold")
        handles, labels = figure.axes[0].get_legend_handles_labels()
        figure.legend(handles, labels, **below(labels))
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", dpi=160, metadata={"Software": "quadric"})
    return buffer.getvalue()


def below(labels: Sequence[str]) -> dict[str, Any]:
    """How a legend is put below the axes, with as many columns as there is room for."""
    room = max(1, 120 // (8 + max(map(len, labels))))
    return {"loc": "outside lower center", "ncols": min(len(labels), room), "handlelength": 3.2}


def draw_curve(axes: Axes, points: list[Point], panel: Panel, position: int, label: str) -> None:
    """Median as a line with a few markers, lowest to highest as a band."""
    across = [{"steps": point.step, "epochs": point.epoch}.get(panel.against, point.seconds) for point in points]
    style: dict[str, Any] = {
        "color": COLOURS[position % len(COLOURS)],
        "linestyle": LINES[position % len(LINES)],
        "marker": MARKERS[position % len(MARKERS)],
    }
    every = max(1, len(points) // MARKERS_PER_LINE)
    first = position * every // len(MARKERS)
    axes.plot(across, [point.value.median for point in points], label=label, markevery=(first, every), **style)
    low, high = [point.value.low for point in points], [point.value.high for point in points]
    axes.fill_between(across, low, high, color=style["color"], alpha=0.12, linewidth=0)


def finish(axes: Axes, panel: Panel, target: dict[str, Any]) -> None:
    """Scales, labels, and the target where it is one of this metric."""
    if panel.log and all(np.min(line.get_ydata(), initial=np.inf) > 0 for line in axes.lines):
        axes.set_yscale("log")
        if panel.percent:
            axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    if panel.percent:
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:g} %"))
        axes.yaxis.set_minor_formatter("")
    if panel.name == target["metric"]:
        axes.axhline(target["threshold"], color="#666666", linestyle=(0, (1, 2)), linewidth=1.2)
        axes.annotate(
            "target",
            (1, target["threshold"]),
            xycoords=("axes fraction", "data"),
            ha="right",
            va="bottom",
            color="#666666",
        )
    axes.set_xlabel("seconds of training" if panel.against == "seconds" else panel.against)
    axes.set_ylabel(panel.label)
