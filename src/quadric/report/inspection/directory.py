"""The directory of an inspection: when it may go on with one that is there, and the report it writes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from quadric.bench.inspection.records import Inspection, difference, is_inspection, read_inspection
from quadric.core.records import mend, write_atomically
from quadric.report.directory import FIGURES, RECORDS, REPORT, check_free
from quadric.report.inspection.figures import draw_all
from quadric.report.inspection.html import render
from quadric.report.inspection.tables import inspection_table
from quadric.report.tables import ResultTable


def earlier(directory: Path, facts: dict[str, Any], overwrite: bool) -> Inspection | None:
    """The inspection in `directory` to go on with; None where a new one is to begin there.

    Raises FileExistsError where the directory holds another run, and what `check_free` raises.
    """
    records = directory / RECORDS
    if overwrite or not is_inspection(records):
        check_free(directory, overwrite)
        return None
    mend(records)
    found = read_inspection(records)
    changed = difference(found.header, facts)
    if changed:
        raise FileExistsError(
            f"{directory} holds an inspection of something else ({changed}). Name another directory, or add "
            "--overwrite."
        )
    return found


def write_report(directory: Path) -> tuple[ResultTable, Path]:
    """Draw figures and HTML report from the records in `directory`; returns the table and the report's path."""
    inspection = read_inspection(directory / RECORDS)
    table, pictures = inspection_table(inspection), draw_all(inspection)
    (directory / FIGURES).mkdir(exist_ok=True)
    for name, picture in pictures.items():
        write_atomically(directory / FIGURES / f"{name}.png", picture)
    report = directory / REPORT
    write_atomically(report, render(inspection, table, pictures).encode())
    return table, report
