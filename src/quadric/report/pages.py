"""The reports of `quadric trajectories`, `tune` and `paper`: a page with a picture, if there is one, and a table."""

from __future__ import annotations

import base64
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import Environment, StrictUndefined

from quadric.bench import trajectories
from quadric.bench.journal import header_kind
from quadric.bench.paper import figure1, table1
from quadric.bench.search import recommendation as methods
from quadric.bench.search import records as search
from quadric.core.records import Layout, write_atomically
from quadric.report import recommendation as recommendation_report
from quadric.report import table1 as table1_report
from quadric.report import trajectories as trajectory_report
from quadric.report import tuning as tuning_report
from quadric.report.directory import FIGURES, RECORDS, REPORT, TRAJECTORIES, TUNING
from quadric.report.tables import ResultTable

FOLDER = files("quadric.report")

Contents = tuple[dict[str, Any], ResultTable, bytes | None]
"""A header, a table, and a PNG file."""


def ways(layout: Layout) -> Callable[[Path], Contents]:
    """The reader of a record of trajectories."""

    def read(path: Path) -> Contents:
        found = trajectories.read(path, layout)
        table = trajectory_report.table(found)
        return found.header, table, trajectory_report.draw(found) if table.rows else None

    return read


def counts(path: Path) -> Contents:
    """What a record of table 1 holds."""
    header, blocks = table1.read(path)
    return header, table1_report.table(blocks), None


def settings(path: Path) -> Contents:
    """What a record of a search holds."""
    found = search.read(path)
    return found.header, tuning_report.table(found), tuning_report.draw(found)


def recommended(path: Path) -> Contents:
    """What a record of a search over methods holds."""
    race = methods.read(path)
    return race.header, recommendation_report.table(race), recommendation_report.draw(race)


READERS: dict[str, Callable[[Path], Contents]] = {
    trajectories.LAYOUT.header: ways(trajectories.LAYOUT),
    figure1.LAYOUT.header: ways(figure1.LAYOUT),
    table1.LAYOUT.header: counts,
    search.LAYOUT.header: settings,
    methods.LAYOUT.header: recommended,
}


SEARCHES = (search.LAYOUT.header, methods.LAYOUT.header)


def is_paged(path: Path) -> bool:
    """Whether `path` is a record file whose report is such a page."""
    return header_kind(path) in READERS


def write_report(directory: Path) -> tuple[ResultTable, Path]:
    """Draw figure and page from the record file in `directory`; returns the table and the report's path.

    Raises:
        ValueError: the record file cannot be read, or holds nothing to report yet.
    """
    records, report = directory / RECORDS, directory / REPORT
    kind = header_kind(records)
    header, table, picture = READERS[kind](records)
    if not table.rows:
        raise ValueError(f"{records} holds no run yet, so there is nothing to report.")
    if picture is not None:
        (directory / FIGURES).mkdir(exist_ok=True)
        write_atomically(directory / (TUNING if kind in SEARCHES else TRAJECTORIES), picture)
    write_atomically(report, page(table, picture, header["environment"]).encode())
    return table, report


def page(table: ResultTable, picture: bytes | None, environment: dict[str, str]) -> str:
    """The page's text."""
    template = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    return template.from_string((FOLDER / "page.html.jinja").read_text(encoding="utf-8")).render(
        style=(FOLDER / "report.css").read_text(encoding="utf-8"),
        table=table,
        picture=None if picture is None else base64.b64encode(picture).decode(),
        environment=environment,
    )
