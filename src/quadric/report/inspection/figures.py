"""The pictures of an inspection as PNG files, told apart without colour: by line, marker and darkness."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator

from quadric.analysis.slice_plane import SlicePlane
from quadric.bench.inspection.records import Inspection
from quadric.linalg.eigenpairs import Eigenpairs
from quadric.linalg.spectral_density import SpectralDensity
from quadric.report.figures import COLOURS, LINES, MARKERS, STYLE
from quadric.report.inspection.tables import curvatures, result
from quadric.report.tables import plain

SIZE = (10.0, 4.4)
FLAT = 1e-12
"""Of the largest loss: a plane that spans less is flat to rounding."""
DEPTH = 1e-6
"""Densities below this share of the highest are not shown."""
PLANES = {"plane-eigenvectors": ("v₁", "v₂"), "plane-random": ("r₁", "r₂")}
"""The parts that are planes, and what their axes are called."""
TITLES = {
    "eigenvalues": "Largest eigenvalues",
    "density": "Spectral density",
    "lines": "The loss along directions, and its quadratic model",
    "planes": "The loss on planes",
}


def draw_all(inspection: Inspection) -> dict[str, bytes]:
    """PNG files by name, without those that would be empty."""
    drawers: dict[str, Callable[[Inspection], Figure | None]] = {
        "eigenvalues": _eigenvalues,
        "density": _density,
        "lines": _lines,
        "planes": _planes,
    }
    pictures = {}
    with matplotlib.rc_context(STYLE):
        for name, drawer in drawers.items():
            figure = drawer(inspection)
            if figure is not None:
                buffer = io.BytesIO()
                figure.savefig(buffer, format="png", dpi=160, metadata={"Software": "quadric"})
                pictures[name] = buffer.getvalue()
    return pictures


def _eigenvalues(inspection: Inspection) -> Figure | None:
    found = _each(inspection, "top", Eigenpairs)
    if not found:
        return None
    figure = Figure(figsize=SIZE, layout="constrained")
    axes = figure.subplots()
    for i, (name, top) in enumerate(found.items()):
        values, errors = top.eigenvalues.numpy(), top.errors.numpy()
        axes.errorbar(np.arange(1, len(values) + 1), values, yerr=errors, label=name, **_style(i), capsize=2)
    if all(float(top.eigenvalues.min()) > 0 for top in found.values()):
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_major_formatter("{x:g}")
        axes.yaxis.set_minor_formatter("")
    axes.set_xlabel("place, from the largest")
    axes.set_ylabel("eigenvalue λ")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.legend()
    return figure


def _density(inspection: Inspection) -> Figure | None:
    found = _each(inspection, "density", SpectralDensity)
    if not found:
        return None
    figure = Figure(figsize=SIZE, layout="constrained")
    axes = figure.subplots()
    highest = max(float(density.density.max()) for density in found.values())
    for i, (name, density) in enumerate(found.items()):
        grid, floor = density.grid.numpy(), DEPTH * highest / 10
        style = {key: value for key, value in _style(i).items() if key != "marker"}
        axes.plot(grid, density.density.clamp_min(floor).numpy(), label=name, **style)
        low, high = (end.clamp_min(floor).numpy() for end in density.band)
        axes.fill_between(grid, low, high, color=style["color"], alpha=0.15, linewidth=0)
    axes.set_yscale("log")
    axes.set_ylim(DEPTH * highest, 3 * highest)
    axes.set_xlabel("eigenvalue λ")
    axes.set_ylabel("density")
    axes.legend()
    return figure


def _lines(inspection: Inspection) -> Figure | None:
    drawn = [
        (plane, i, name)
        for plane, names in _found_planes(inspection)
        for i, name in enumerate(names[: len(plane.slopes)])
    ]
    if not drawn:
        return None
    figure = Figure(figsize=(SIZE[0], SIZE[1] * ((len(drawn) + 1) // 2) * 0.8), layout="constrained")
    grid = figure.subplots((len(drawn) + 1) // 2, min(2, len(drawn)), squeeze=False).flatten()
    for axes, (plane, i, name) in zip(grid, drawn, strict=False):
        across, losses, model = (values.numpy() for values in plane.line(i))
        axes.plot(across, losses, label="loss", **_style(0))
        axes.plot(across, model, label="quadratic model", color=COLOURS[1], linestyle="--")
        curvature = float(plane.curvatures[i]) / (float(across[-1]) / float(plane.slice.coordinates[-1])) ** 2
        axes.set_xlabel(f"distance along {name} (curvature {plain(curvature)})")
        axes.set_ylabel("loss")
    for axes in grid[len(drawn) :]:
        axes.set_axis_off()
    handles, labels = grid[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=2, handlelength=3.2)
    return figure


def _planes(inspection: Inspection) -> Figure | None:
    drawn = [(plane, names) for plane, names in _found_planes(inspection) if plane.slice.losses.dim() == 2]
    if not drawn:
        return None
    figure = Figure(figsize=SIZE, layout="constrained")
    for axes, (plane, names) in zip(figure.subplots(1, len(drawn), squeeze=False)[0], drawn, strict=True):
        _contours(axes, plane, names)
    return figure


def _contours(axes: Axes, plane: SlicePlane, names: tuple[str, str]) -> None:
    """Levels that grow by equal factors above the lowest loss, on a map that is darker where the loss is lower."""
    losses = plane.slice.losses.numpy()
    across, along = plane.line(0)[0].numpy(), plane.line(1)[0].numpy()
    finite = losses[np.isfinite(losses)]
    low, high = float(finite.min()), float(finite.max())
    span = high - low
    if span <= FLAT * max(abs(low), abs(high)):
        span = 1.0
    levels = low + span * np.concatenate([[0.0], np.geomspace(1e-2, 1.0, 9)])
    axes.contourf(across, along, losses.T, levels=levels, cmap="Greys_r", alpha=0.45)
    lines = axes.contour(across, along, losses.T, levels=levels[1:-1], colors="black", linewidths=0.7)
    labelled = levels[2:-1:2]
    axes.clabel(lines, levels=labelled, fontsize=7, fmt=_distinct(labelled))
    axes.plot(0, 0, marker="o", color="white", markeredgecolor="black", markersize=7, linestyle="none")
    axes.set_xlabel(f"distance along {names[0]}")
    axes.set_ylabel(f"distance along {names[1]}")
    axes.grid(False)


def _distinct(levels: Any) -> str:
    """A format with as many digits as it takes to tell the levels apart, 3 at least."""
    return next((f for f in ("%.3g", "%.4g", "%.5g", "%.6g") if len({f % x for x in levels}) == len(levels)), "%.7g")


def _found_planes(inspection: Inspection) -> list[tuple[SlicePlane, tuple[str, str]]]:
    return [
        (found, PLANES[kind])
        for name, found in inspection.results.items()
        for kind in PLANES
        if name.endswith(kind) and isinstance(found, SlicePlane)
    ]


def _each(inspection: Inspection, part: str, kind: Any) -> dict[str, Any]:
    """The results of one part, by curvature."""
    found = {name: result(inspection, f"{name}-{part}", kind) for name in curvatures(inspection)}
    return {name: value for name, value in found.items() if value is not None}


def _style(i: int) -> dict[str, Any]:
    return {
        "color": COLOURS[i % len(COLOURS)],
        "linestyle": LINES[i % len(LINES)],
        "marker": MARKERS[i % len(MARKERS)],
    }
