"""Table 2 and Figures 2 and 3 of the CurveBall paper: train and validation error of networks, ours and published."""

from __future__ import annotations

import io
from collections.abc import Mapping
from math import inf
from pathlib import Path
from statistics import median
from typing import Any, Literal

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from quadric.bench.continuation import mixtures
from quadric.bench.paper.networks import METHODS, NETWORKS, Method
from quadric.bench.records import Evaluation, Record, Run
from quadric.core.records import write_atomically
from quadric.report.figures import STYLE, Metric, Panel, below, draw_curve, finish, test_error
from quadric.report.pages import page
from quadric.report.summary import curve
from quadric.report.tables import NOT_MEASURED, Cell, ResultTable, length, number

Records = Mapping[str, Record]
"""The record of each network, by its problem's name."""
NOTES = (
    "Train / validation error in per cent at the end of the runs, median over seeds; below it the lowest of each on "
    "the way. “Published” is the paper's best train / validation error, as recalled, so approximate.",
    "Train error: here of the weights after the step, in evaluation mode, on training images that are not augmented "
    "(at full scale on evenly spaced 10,000 of them). Training programs of the paper's time average it over the "
    "epoch, in training mode, on augmented images, which gives higher figures with dropout and augmentation.",
    "Validation images are CIFAR-10's test images, and ImageNet's validation images, as in the paper.",
    "SGD and Adam run with three learning rates each; the one with the lowest train error at the end is shown. "
    "CurveBall runs once, with λ from 1 (10 without batch norm) as in the authors' program; its default sets nothing.",
    "The networks' layers, and the epochs at full scale, follow the authors' program as recalled. Its schedule of "
    "learning rates and its whitening of CIFAR-10 are not repeated here: learning rates are constant, colours are "
    "normalised.",
    "The paper's ImageNet-100 is a hundred of ImageNet's classes; which ones is not known here.",
)


def write(
    directory: Path, part: str, records: Records, against: Literal["epochs", "seconds"] | None
) -> tuple[ResultTable, Path]:
    """Write the page of a part, with its figure where it has one; returns the table and the page's path."""
    picture = None if against is None else draw(records, against)
    if picture is not None:
        write_atomically(directory / f"{part}.png", picture)
    found, path = table(records), directory / f"{part}.html"
    write_atomically(path, page(found, picture, next(iter(records.values())).header.environment).encode())
    return found, path


def train_error(evaluation: Evaluation) -> float | None:
    """The train error."""
    return evaluation.train_error


def chosen(record: Record, method: Method, network: str) -> str | None:
    """Of the method's settings the one with the lowest train error at the end; `None` where nothing was run."""
    begun = [name for name in method.names(network) if any(run.evaluations for run in record.runs_of(name))]
    return min(begun, key=lambda name: final(record.runs_of(name))) if begun else None


def final(runs: list[Run]) -> tuple[float, float]:
    """Train error and loss at the end, medians over seeds; infinite where a run diverged."""

    def last(metric: str) -> float:
        values = [getattr(run.evaluations[-1], metric) for run in runs if run.evaluations]
        lost = [run.status == "diverged" for run in runs if run.evaluations]
        return median(inf if gone or value is None else value for value, gone in zip(values, lost, strict=True))

    return last("train_error"), last("train_loss")


def table(records: Records) -> ResultTable:
    """A row for each method, and below it the published one; no rows where there are no runs."""
    rows = []
    for method in METHODS:
        picked = {network: chosen(record, method, network) for network, record in records.items()}
        if not any(picked.values()):
            continue
        rows.append([Cell(method.title), *(cell(records[network], name) for network, name in picked.items())])
        if method.published:
            rows.append([Cell("published", "approximate"), *(paper(method, network) for network in records)])
    return ResultTable(
        "Table 2 of the CurveBall paper: errors of networks",
        ["train / validation error, %", *(NETWORKS[network] for network in records)],
        rows,
        [*NOTES, *extents(records), *remarks(records)],
    )


def cell(record: Record, name: str | None) -> Cell:
    """The errors of one method on one network."""
    runs = [run for run in record.runs_of(name) if run.evaluations] if name else []
    if not runs:
        return Cell(NOT_MEASURED)
    setting = "" if name is None or "lr=" not in name else f", lr {name.partition('lr=')[2]}"
    lost = sum(run.status == "diverged" for run in runs)
    if lost == len(runs):
        return Cell("diverged", setting.removeprefix(", "))
    whole = [run for run in runs if run.status != "diverged"]
    ends = [middle([metric(run.evaluations[-1]) for run in whole]) for metric in (train_error, test_error)]
    lowest = [
        middle([min(value for e in run.evaluations if (value := metric(e)) is not None) for run in whole])
        for metric in (train_error, test_error)
    ]
    said = f", {lost} of {len(runs)} diverged" if lost else ""
    said += ", unfinished" if any(run.status == "interrupted" for run in whole) else ""
    return Cell(" / ".join(ends), f"best {' / '.join(lowest)}{setting}{said}")


def middle(values: list[float | None]) -> str:
    """The median in per cent."""
    return f"{100 * median(value for value in values if value is not None):.1f}"


def paper(method: Method, network: str) -> Cell:
    """What the paper has there."""
    figures = method.published.get(network)
    return Cell(" / ".join(NOT_MEASURED if e is None else f"{e:.1f}" for e in figures) if figures else NOT_MEASURED)


def extents(records: Records) -> list[str]:
    """How large and long the runs were."""
    return [
        f"{NETWORKS[network]}: {record.header.problem['scale']} scale ({record.header.problem['size']}), run for "
        f"{length(record.header.epochs, record.header.seconds)} with {number(len(record.seeds), 'seed')}, "
        f"batches of {record.header.problem['batch_size']}."
        for network, record in records.items()
    ]


def remarks(records: Records) -> list[str]:
    """What the data have to say, and what is mixed or damaged."""
    found = []
    for network, record in records.items():
        damage = [f"The record is damaged: {record.damage}."] if record.damage else []
        note = record.header.problem.get("note")
        found += [f"{NETWORKS[network]}: {each}" for each in (note, *mixtures(record.environments), *damage) if each]
    return found


def draw(records: Records, against: Literal["epochs", "seconds"]) -> bytes:
    """Train error above validation error, a column for each network, as a PNG file."""
    metrics: tuple[tuple[str, Metric], ...] = (("train error", train_error), ("validation error", test_error))
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(max(10.0, 3.4 * len(records)), 7), layout="constrained")
        grid = figure.subplots(2, len(records), squeeze=False)
        labels: dict[str, Any] = {}
        for row, (label, metric) in zip(grid, metrics, strict=True):
            for axes, (network, record) in zip(row, records.items(), strict=True):
                draw_errors(axes, record, network, Panel(label, metric, against, percent=True))
                axes.set_title(NETWORKS[network])
                handles, titles = axes.get_legend_handles_labels()
                labels |= dict(zip(titles, handles, strict=True))
        figure.legend(labels.values(), labels.keys(), **below(list(labels)))
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", dpi=160, metadata={"Software": "quadric"})
    return buffer.getvalue()


def draw_errors(axes: Axes, record: Record, network: str, panel: Panel) -> None:
    """One error of every method on one network."""
    for position, method in enumerate(METHODS):
        name = chosen(record, method, network)
        points = curve(record.runs_of(name), panel.metric) if name else []
        if points:
            draw_curve(axes, points, panel, position, method.title)
    finish(axes, panel, record.header.problem["target"])
