"""`quadric report`: redraw table, figures and HTML report from records."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def report(
    directory: Annotated[Path, typer.Argument(help="The directory that `quadric compare --out` wrote.")],
) -> None:
    """Redraw the table, the figures and the HTML report of a comparison from its records.

    Nothing is trained again. Works for an interrupted comparison too.

    [bold]Example[/bold]

    quadric report runs/demo
    """
    from quadric.cli.output import show
    from quadric.report.directory import write_report

    show(*write_report(directory))
