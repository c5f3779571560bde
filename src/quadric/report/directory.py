"""A directory of results: which files quadric writes there, and when it may write."""

from __future__ import annotations

import os
from collections.abc import Collection
from pathlib import Path

from quadric.bench.inspection.records import RESULTS, results_in
from quadric.bench.journal import header_kind
from quadric.bench.records import BEGINNING, Record, read, read_header
from quadric.core.records import FILE_NAME, write_atomically
from quadric.report.figures import PICTURES, draw_all
from quadric.report.html import render
from quadric.report.inspection.figures import TITLES as INSPECTED
from quadric.report.sensitivity import NAME as SENSITIVITY
from quadric.report.sensitivity import draw_sensitivity
from quadric.report.tables import ResultTable, result_table

RECORDS = FILE_NAME
REPORT = "report.html"
FIGURES = "figures"
TRAJECTORIES = f"{FIGURES}/trajectories.png"
TUNING = f"{FIGURES}/tuning.png"
STUDY = "quadric-study.log"
OWN = (RECORDS, REPORT, STUDY, TRAJECTORIES, TUNING, *(f"{FIGURES}/{name}.png" for name in (*PICTURES, SENSITIVITY)))
OTHERS = ("inspection", "trajectories", "figure1", "table1", "tuning", "auto")
"""The kinds of headers beside a comparison's."""


def prepare(directory: Path, overwrite: bool, keep: Collection[str] = ()) -> Path:
    """Make `directory` ready for a new run; returns the path of its record file.

    With `overwrite`, the files that quadric wrote for an earlier run are removed, without those to `keep`, and
    nothing else.

    Raises what `check_free` does, and PermissionError where the directory cannot be made.
    """
    for name in set(check_free(directory, overwrite)) - set(keep):
        (directory / name).unlink()
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        reason = (error.strerror or "refused").lower()
        raise PermissionError(f"{directory} cannot be made ({reason}); name another directory.") from error
    return directory / RECORDS


def check_free(directory: Path, overwrite: bool) -> list[str]:
    """The files of an earlier run in `directory`; changes nothing.

    Raises:
        FileExistsError: there is a run already and `overwrite` is not set, or files of those names that quadric
            did not write.
        NotADirectoryError: `directory` is a file.
        PermissionError: it, or where it would be made, cannot be written.
    """
    if directory.exists() and not directory.is_dir():
        raise NotADirectoryError(f"{directory} is a file; name a directory for the results.")
    present = [name for name in own_files(directory) if (directory / name).exists()]
    if present and not is_record(directory / RECORDS):
        raise FileExistsError(
            f"{directory} holds {', '.join(present)} but no record file of quadric, which therefore does not replace "
            "them. Name another directory."
        )
    if present and not overwrite:
        raise FileExistsError(f"{directory} holds another run. Name another directory, or add --overwrite.")
    there = next(place for place in (directory, *directory.absolute().parents) if place.exists())
    if not there.is_dir():
        raise NotADirectoryError(f"{directory} cannot be made, since {there} is a file; name another directory.")
    if not os.access(there, os.W_OK | os.X_OK):
        raise PermissionError(f"{there} cannot be written; name another directory than {directory}.")
    return present


def own_files(directory: Path) -> list[str]:
    """The names of what quadric writes there: those of a comparison, and those of the inspection that is there."""
    inspected = [f"{FIGURES}/{name}.png" for name in INSPECTED]
    return [*OWN, *inspected, *(f"{RESULTS}/{name}" for name in results_in(directory / RECORDS))]


def is_record(path: Path) -> bool:
    """Whether `path` is a record file, or all that there is of one whose first line was never finished."""
    try:
        with path.open(encoding="utf-8", errors="replace") as file:
            start = file.readline()
        if not start.endswith("\n") and (start.startswith(BEGINNING) or BEGINNING.startswith(start)):
            return True
        if header_kind(path) not in OTHERS:
            read_header(path)
    except (OSError, ValueError):
        return False
    return True


def is_comparison(path: Path) -> bool:
    """Whether `path` begins as the record file of a comparison does."""
    with path.open(encoding="utf-8", errors="replace") as file:
        return file.read(len(BEGINNING)) == BEGINNING


def problems_in(directory: Path) -> list[Path]:
    """The directories of a comparison over several problems in the order of their names; none where there is one."""
    if (directory / RECORDS).exists() or not directory.is_dir():
        return []
    found = sorted(each.parent for each in directory.glob(f"*/{RECORDS}") if is_comparison(each))
    return found if len(found) > 1 else []


def write_report(directory: Path) -> tuple[Record, ResultTable, Path]:
    """Draw figures and HTML report from the record file in `directory`; returns record, table and the report's path.

    Raises:
        FileNotFoundError: there is no record file.
        ValueError: the record file cannot be read, or holds no evaluation yet.
    """
    records = directory / RECORDS
    if not records.is_file():
        raise FileNotFoundError(
            f"{directory} holds no {RECORDS}; name the directory that `quadric compare --out` wrote."
        )
    record = read(records)
    if not any(run.evaluations for run in record.runs):
        raise ValueError(f"{records} holds no evaluation yet, so there is nothing to report.")
    table, pictures = result_table(record), draw_all(record)
    sensitivity = draw_sensitivity(record)
    if sensitivity is not None:
        pictures[SENSITIVITY] = sensitivity
    (directory / FIGURES).mkdir(exist_ok=True)
    for name, picture in pictures.items():
        write_atomically(directory / FIGURES / f"{name}.png", picture)
    report = directory / REPORT
    write_atomically(report, render(record, table, pictures).encode())
    return record, table, report
