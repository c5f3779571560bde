"""`quadric paper table1`: steps to solve Rosenbrock's function and Rahimi and Recht's network."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from quadric.cli.options import Scale


def table1(
    scale: Annotated[
        Scale, typer.Option(help="20 runs of each method on each problem, or the paper's 100.")
    ] = Scale.small,
    out: Annotated[Path, typer.Option(help="Directory for records and report.")] = Path("runs/table1"),
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Begin anew in place of going on.")] = False,
) -> None:
    """Steps to solve Rosenbrock's function, with and without noise, and Rahimi and Recht's ill-conditioned network.

    SGD with momentum, Adam, BFGS, Levenberg–Marquardt, the exact Hessian and CurveBall, with the authors' settings and
    with ours, beside the published figures. Given the same directory again it goes on where it was interrupted, and
    comes to the same numbers; full goes on from small.

    [bold]Examples[/bold]

    quadric paper table1 --scale small --out runs/table1

    quadric paper table1 --scale full --out runs/table1
    """
    import torch
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    from quadric.bench.environment import describe
    from quadric.bench.paper.table1 import SCALES, record
    from quadric.cli.output import console, show
    from quadric.report.directory import RECORDS, check_free, prepare
    from quadric.report.pages import write_report

    torch.set_num_threads(1)
    path = out / RECORDS
    check_free(out, overwrite=True)
    if overwrite or not path.exists():
        prepare(out, overwrite)
    interrupted = False
    columns = TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn()
    with Progress(*columns, console=console(), transient=True) as progress:
        bar = progress.add_task("table 1", total=None)
        try:
            for done, (block, left) in enumerate(record(path, describe(torch.device("cpu")), SCALES[scale]), start=1):
                text = f"{block.method} on {block.problem}, seeds from {block.first}"
                progress.update(bar, completed=done, total=done + left, description=text)
                if not progress.console.is_terminal:
                    progress.console.print(f"{text}: done, {left} blocks left", highlight=False)
        except KeyboardInterrupt:
            interrupted = True
    show(*write_report(out))
    if interrupted:
        raise RuntimeError("interrupted; the same command goes on from here.")
