"""What commands print: tables wide enough to read, and the path of a report last."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console

from quadric.report.tables import ResultTable, for_terminal

WIDTH = 120
"""Columns where the output is not a terminal, such as a log."""


def console() -> Console:
    """Standard output as rich sees it."""
    output = Console()
    return output if output.is_terminal else Console(width=max(WIDTH, output.width))


def show(table: ResultTable, report: Path) -> None:
    """Print the table, then where the report is."""
    output = console()
    for each in (table, *table.parts):
        output.print(each.title, style="bold", highlight=False, markup=False)
        for part in for_terminal(each, output.width) if each.rows else ():
            output.print(part)
        for note in each.notes:
            output.print(f"• {note}", highlight=False, markup=False)
        output.print()
    if table.verdict:
        output.print(f"{table.verdict}\n", highlight=False, markup=False)
    output.print(f"report: {report}", highlight=False, markup=False, soft_wrap=True)


def announce(profiles: Path) -> None:
    """Print where the performance profiles are."""
    console().print(f"profiles: {profiles}", highlight=False, markup=False, soft_wrap=True)
