"""`quadric report`: redraw table, figures and HTML report from records."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def report(
    directory: Annotated[Path, typer.Argument(help="The directory that --out named.")],
) -> None:
    """Redraw the table, the figures and the HTML report of any command that records, from its records.

    Nothing is trained, run or measured again. Works for what was interrupted, too.

    [bold]Example[/bold]

    quadric report runs/demo
    """
    from quadric.bench.inspection.records import is_inspection
    from quadric.cli.output import announce, show
    from quadric.report import directory as comparisons
    from quadric.report import pages
    from quadric.report.inspection import directory as inspections
    from quadric.report.profile import write_profile

    records = directory / comparisons.RECORDS
    if is_inspection(records):
        show(*inspections.write_report(directory))
    elif pages.is_paged(records):
        show(*pages.write_report(directory))
    elif parts := comparisons.problems_in(directory):
        redrawn = [comparisons.write_report(part) for part in parts]
        for _, table, page in redrawn:
            show(table, page)
        announce(write_profile(directory, [record for record, *_ in redrawn]))
    else:
        show(*comparisons.write_report(directory)[1:])
