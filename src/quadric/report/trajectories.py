"""Trajectories over contours and loss against steps, as one PNG file, and the table of how they ended."""

from __future__ import annotations

import io
from collections.abc import Sequence
from math import isfinite
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from quadric.bench.trajectories import Method, Scene, Surface, Trajectory, Ways
from quadric.problems.planes import Window
from quadric.report.figures import COLOURS, LINES, MARKERS, STYLE
from quadric.report.summary import settings
from quadric.report.tables import NOT_MEASURED, Cell, ResultTable, plain

Points = NDArray[np.float64]
Bools = NDArray[np.bool_]
LEVELS = 22
SPACING = 0.11
"""Markers are so far apart along a trajectory, as a share of the panel's diagonal."""
MANY = 40
"""Fewer points than this of a trajectory are all marked."""
MARKS = 9
"""Markers on a line of losses."""
WIDE = 30.0
"""Where one method takes so many times the steps of another, steps are on a logarithmic scale."""
REACH = 10.0
"""Of a run that diverges so many times the first loss is shown."""
FLOOR = 1e-16
"""Losses below this are drawn here where the scale is logarithmic."""
ENDS = {"diverged": "x", "gave up": "X"}


def draw(ways: Ways) -> bytes:
    """The PNG file: a row for each scene, contours on the left, loss on the right, one legend."""
    shown = [scene for scene in ways.scenes if any(t.scene == scene.name and t.points for t in ways.trajectories)]
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(11, 4.9 * len(shown) + 0.6), layout="constrained")
        panels = figure.subplots(len(shown), 2, squeeze=False)
        for (left, right), scene in zip(panels, shown, strict=True):
            own = {t.method: t for t in ways.trajectories if t.scene == scene.name and t.points}
            lengths = [len(t.points) for t in own.values()]
            wide, surface = max(lengths) > WIDE * min(lengths), ways.surfaces.get(scene.name)
            draw_contours(left, surface, scene)
            for position, way in enumerate(ways.methods):
                if way.label in own:
                    draw_way(left, own[way.label], position, surface.window if surface else None)
                    draw_loss(right, own[way.label], position, wide)
            finish(left, right, scene, list(own.values()), wide)
        handles, labels = panels[0][1].get_legend_handles_labels()
        figure.legend(
            handles, labels, loc="outside lower center", ncols=len(labels) if len(labels) < 6 else 4, handlelength=3.6
        )
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", dpi=150 if len(shown) == 1 else 100, metadata={"Software": "quadric"})
    return buffer.getvalue()


def style(position: int) -> dict[str, Any]:
    """Colour, line and marker of a method: also told apart without colour."""
    return {
        "color": COLOURS[position % len(COLOURS)],
        "linestyle": LINES[position % len(LINES)],
        "marker": MARKERS[position % len(MARKERS)],
        "markeredgecolor": "white",
        "markeredgewidth": 0.6,
        "markersize": 6.5,
    }


def draw_contours(axes: Axes, surface: Surface | None, scene: Scene) -> None:
    """Grey level lines, closer together where f is low, and the known minima."""
    axes.grid(False)
    if surface is not None:
        x0, x1, y0, y1 = surface.window
        values = np.array([[np.nan if v is None else v for v in row] for row in surface.values], dtype=float)
        xs, ys = np.linspace(x0, x1, values.shape[1]), np.linspace(y0, y1, values.shape[0])
        levels = np.unique(np.nanquantile(values, np.linspace(0, 1, LEVELS) ** 2))
        if len(levels) > 1:
            axes.contourf(xs, ys, values, levels=levels, cmap="Greys_r", alpha=0.16)
            axes.contour(xs, ys, values, levels=levels, colors="#9a9a9a", linewidths=0.6, linestyles="solid")
        axes.set_xlim(x0, x1)
        axes.set_ylim(y0, y1)
    for u, v in scene.minima:
        axes.plot(u, v, marker="*", color="black", markersize=13, markeredgecolor="white", zorder=6)


def draw_way(axes: Axes, trajectory: Trajectory, position: int, window: Window | None) -> None:
    """The line through the points that are finite; a run that went wrong ends in a cross, drawn until it leaves."""
    points = np.array(trajectory.points, dtype=float)
    points = points[np.isfinite(points).all(axis=1)]
    if not len(points):
        return
    outside = np.flatnonzero(~within(points, window))
    if trajectory.status == "diverged" and len(outside):
        points = points[: outside[0] + 1]
    marks: Any = 1 if len(points) < MANY else SPACING
    axes.plot(points[:, 0], points[:, 1], markevery=marks, zorder=3, **style(position))
    if trajectory.status in ENDS:
        last = points[within(points, window)][-1:]
        cross: dict[str, Any] = {"color": COLOURS[position % len(COLOURS)], "markersize": 11, "markeredgewidth": 2.5}
        axes.plot(last[:, 0], last[:, 1], ENDS[trajectory.status], zorder=7, **cross)
    axes.plot(*points[0], marker="o", markersize=10, markerfacecolor="white", markeredgecolor="black", zorder=5)


def within(points: Points, window: Window | None) -> Bools:
    """Which points lie in the window; all, if there is none."""
    if window is None:
        return np.ones(len(points), dtype=bool)
    x0, x1, y0, y1 = window
    x, y = points.T
    inside: Bools = (x >= x0) & (x <= x1) & (y >= y0) & (y <= y1)
    return inside


def draw_loss(axes: Axes, trajectory: Trajectory, position: int, wide: bool) -> None:
    """f against the number of steps taken, as far as it is finite; of a run that diverges its beginning."""
    kept = finite(trajectory.values)
    if not kept:
        return
    if trajectory.status == "diverged":
        reach = REACH * max(abs(kept[0]), 1.0)
        kept = kept[: next((i for i, value in enumerate(kept) if abs(value - kept[0]) > reach), len(kept)) + 1]
        kept[-1] = float(np.clip(kept[-1], -100 * reach, 100 * reach))
    count = len(kept)
    if wide:
        marks = np.unique(np.geomspace(1, count, min(count, MARKS)).astype(int)) - 1
    else:
        marks = np.unique(np.linspace(0, count - 1, min(count, MARKS)).astype(int))
    axes.plot(range(count), kept, label=trajectory.method, markevery=marks.tolist(), **style(position))


def finite(values: Sequence[float | None]) -> list[float]:
    """The values up to the first that is not finite, which a record holds as null."""
    numbers = [np.nan if value is None else value for value in values]
    return numbers[: next((i for i, value in enumerate(numbers) if not isfinite(value)), len(numbers))]


def finish(left: Axes, right: Axes, scene: Scene, trajectories: Sequence[Trajectory], wide: bool) -> None:
    """Titles, labels and scales. Losses are on a logarithmic scale unless some are negative."""
    left.set_title(scene.name, loc="left", fontweight="bold", fontsize=11)
    left.set_xlabel("x")
    left.set_ylabel("y")
    right.set_title(scene.summary, loc="left", fontsize=9)
    right.set_xlabel("steps")
    right.set_ylabel("f")
    if wide:
        right.set_xscale("symlog", linthresh=10, linscale=0.7)
        right.set_xlim(left=0)
    first = max(t.values[0] for t in trajectories)
    values = [value for t in trajectories for value in finite(t.values)]
    bounded = [first, *(value for t in trajectories if t.status != "diverged" for value in finite(t.values))]
    if min(values) >= 0 and max(values) > 0:
        right.set_yscale("log")
        low = max(FLOOR, 0.5 * min([v for v in values if v > 0], default=FLOOR))
        right.set_ylim(low, 3 * max(REACH * first, low, *bounded))
    else:
        low, high = max(min(values), first - REACH * max(abs(first), 1.0)), max(bounded)
        margin = 0.05 * (high - low) or 1.0
        right.set_ylim(low - margin, high + margin)


def table(ways: Ways) -> ResultTable:
    """How each method fared; the notes say how it ended. With several scenes, a column of steps for each."""
    own = {(t.scene, t.method): t for t in ways.trajectories if t.points}
    shown = [way for way in ways.methods if any((scene.name, way.label) in own for scene in ways.scenes)]
    if len(ways.scenes) > 1:
        columns = ["steps", *(scene.name for scene in ways.scenes)]
        rows = [[Cell(w.label), *(outcome(own.get((scene.name, w.label))) for scene in ways.scenes)] for w in shown]
        return ResultTable(ways.header["title"], columns, rows, [f"{w.label}: {w.origin}." for w in shown])
    found = {way.label: own[ways.scenes[0].name, way.label] for way in shown}
    return ResultTable(
        ways.header["title"],
        ["method", "steps", "f at the end", "lowest f"],
        [row(found[way.label], way) for way in shown],
        [f"{way.label}: {found[way.label].reason}." for way in shown],
    )


def outcome(trajectory: Trajectory | None) -> Cell:
    """The steps seen, and how the run ended."""
    if trajectory is None:
        return Cell(NOT_MEASURED)
    ended = "out of steps" if trajectory.status == "finished" else trajectory.status
    return Cell(f"{len(trajectory.points):,}", ended)


def row(trajectory: Trajectory, way: Method) -> list[Cell]:
    """One line of the table of a single scene."""
    chosen = settings(way.hyper) if way.hyper else way.origin
    values, last = finite(trajectory.values), trajectory.values[-1]
    return [
        Cell(way.label, chosen if way.label == way.optimizer else f"{way.optimizer}, {chosen}"),
        Cell(f"{len(trajectory.points) - 1:,}", "" if trajectory.status == "finished" else trajectory.status),
        Cell(plain(last) if last is not None and isfinite(last) else "not finite"),
        Cell(plain(min(values)) if values else NOT_MEASURED),
    ]
