"""The directory of a comparison: which files quadric writes there, and when it may write."""

from __future__ import annotations

from pathlib import Path

from quadric.bench.records import Record, read, read_header, write_atomically
from quadric.report.figures import PICTURES, draw_all
from quadric.report.html import render
from quadric.report.tables import ResultTable, result_table

RECORDS = "records.jsonl"
REPORT = "report.html"
FIGURES = "figures"
OWN = (RECORDS, REPORT, *(f"{FIGURES}/{name}.png" for name in PICTURES))


def prepare(directory: Path, overwrite: bool) -> Path:
    """Make `directory` ready for a new comparison; returns the path of its record file.

    With `overwrite`, the files that quadric wrote for an earlier comparison are removed, and nothing else.

    Raises:
        FileExistsError: there is a comparison already and `overwrite` is not set, or files of those names that quadric
            did not write.
        NotADirectoryError: `directory` is a file.
    """
    if directory.exists() and not directory.is_dir():
        raise NotADirectoryError(f"{directory} is a file; name a directory for the results.")
    records = directory / RECORDS
    present = [name for name in OWN if (directory / name).exists()]
    if present and not is_record(records):
        raise FileExistsError(
            f"{directory} holds {', '.join(present)} but no record file of quadric, which therefore does not replace "
            "them. Name another directory."
        )
    if present and not overwrite:
        raise FileExistsError(f"{directory} holds another run. Name another directory, or add --overwrite.")
    for name in present:
        (directory / name).unlink()
    directory.mkdir(parents=True, exist_ok=True)
    return records


def is_record(path: Path) -> bool:
    """Whether `path` is a record file."""
    try:
        read_header(path)
    except (OSError, ValueError):
        return False
    return True


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
    (directory / FIGURES).mkdir(exist_ok=True)
    for name, picture in pictures.items():
        write_atomically(directory / FIGURES / f"{name}.png", picture)
    report = directory / REPORT
    write_atomically(report, render(record, table, pictures).encode())
    return record, table, report
