"""`quadric paper figure1`: trajectories on the stochastic Rosenbrock function, and loss against iterations."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def figure1(
    out: Annotated[Path, typer.Option(help="Directory for records, figure and report.")] = Path("runs/figure1"),
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace an earlier run in the same directory.")
    ] = False,
) -> None:
    """Trajectories on Rosenbrock's function without noise, with U[0,1] and with U[0,3], and loss against steps.

    The methods and their settings are those of `quadric paper table1`; a run ends where it is solved.

    [bold]Example[/bold]

    quadric paper figure1 --out runs/figure1
    """
    import torch

    from quadric.bench.environment import describe
    from quadric.bench.paper.figure1 import record
    from quadric.cli.output import console, show
    from quadric.report.directory import check_free, prepare
    from quadric.report.pages import write_report

    torch.set_num_threads(1)
    check_free(out, overwrite)
    records = prepare(out, overwrite)
    interrupted = False
    with console().status("figure 1") as status:
        for done in record(records, describe(torch.device("cpu"))):
            status.update(f"{done.scene}: {done.method}")
            interrupted = done.status == "interrupted"
    show(*write_report(out))
    if interrupted:
        raise RuntimeError("interrupted; the report has what was done until then.")
