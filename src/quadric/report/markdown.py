"""A result table as Markdown, for pages that are kept beside the code."""

from __future__ import annotations

from quadric.report.tables import Cell, ResultTable


def markdown(table: ResultTable) -> str:
    """The table, then its notes as a list."""
    lines = [
        "| " + " | ".join(table.columns) + " |",
        "|---|" + "---:|" * (len(table.columns) - 1),
        *("| " + " | ".join(map(text, row)) + " |" for row in table.rows),
        "",
        *(f"- {note}" for note in table.notes),
    ]
    return "\n".join(lines) + "\n"


def text(cell: Cell) -> str:
    """A cell on one line."""
    return f"{cell.main} ({cell.below})" if cell.below else cell.main
