"""`quadric list`: the problems, the optimisers, and the functions of two variables."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from quadric.problems import Problem


def list_names() -> None:
    """Show the problems, the optimisers, and the functions that `quadric trajectories` has, one line each.

    [bold]Example[/bold]

    quadric list
    """
    from rich.table import Table

    from quadric import optim, problems
    from quadric.cli.output import console
    from quadric.problems.planes import PLANES

    output = console()
    for title, lines in {
        "Problems": {name: described(problems.get(name)) for name in problems.names()},
        "Optimisers": {name: optim.summary(name) for name in optim.names()},
        "Functions of two variables": {name: plane.summary for name, plane in PLANES.items()},
    }.items():
        table = Table(
            title=title, title_justify="left", title_style="bold", box=None, show_header=False, padding=(0, 2)
        )
        table.add_column(no_wrap=True, style="cyan")
        table.add_column()
        for name, line in lines.items():
            table.add_row(name, line)
        output.print(table)
        output.print()


def described(problem: Problem) -> str:
    """The problem's summary, and its sizes where it has several."""
    sizes = [f"{scale}: {size.size}" for scale, size in problem.scales.items()]
    return "\n".join([problem.summary, *(["--scale " + "; ".join(sizes)] if sizes else [])])
