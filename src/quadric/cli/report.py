"""`quadric report`: redraw table, figures and HTML report from records."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def report(
    directory: Annotated[Path, typer.Argument(help="The directory that `quadric compare` or `quadric inspect` wrote.")],
) -> None:
    """Redraw the table, the figures and the HTML report of a comparison or an inspection from its records.

    Nothing is trained or measured again. Works for what was interrupted, too.

    [bold]Example[/bold]

    quadric report runs/demo
    """
    from quadric.bench.inspection.records import is_inspection
    from quadric.cli.output import show
    from quadric.report import directory as comparisons
    from quadric.report.inspection import directory as inspections

    if is_inspection(directory / comparisons.RECORDS):
        show(*inspections.write_report(directory))
    else:
        show(*comparisons.write_report(directory)[1:])
