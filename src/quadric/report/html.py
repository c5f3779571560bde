"""The report: one HTML file with everything in it, readable without a network."""

from __future__ import annotations

import base64
from importlib.resources import files

from jinja2 import Environment, StrictUndefined

from quadric.bench.records import Record
from quadric.report.figures import TITLES
from quadric.report.sensitivity import NAME, TITLE
from quadric.report.summary import settings
from quadric.report.tables import ResultTable

FOLDER = files("quadric.report")


def render(record: Record, table: ResultTable, pictures: dict[str, bytes]) -> str:
    """The report's text; `pictures` are PNG files by name."""
    template = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    return template.from_string((FOLDER / "report.html.jinja").read_text(encoding="utf-8")).render(
        style=(FOLDER / "report.css").read_text(encoding="utf-8"),
        header=record.header,
        record=record,
        table=table,
        runs=record.runs,
        settings=settings,
        pictures=[
            ({**TITLES, NAME: TITLE}[name], base64.b64encode(picture).decode()) for name, picture in pictures.items()
        ],
    )
