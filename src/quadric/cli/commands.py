"""The commands, put together."""

from __future__ import annotations

import typer

from quadric.cli.compare import compare
from quadric.cli.inspect import inspect
from quadric.cli.list import list_names
from quadric.cli.paper import paper
from quadric.cli.report import report
from quadric.cli.trajectories import trajectories
from quadric.cli.tune import tune

app = typer.Typer(
    help="quadric: curvature for deep learning. Inspect models, compare optimisers, and redraw what was recorded.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)
app.command("list")(list_names)
app.command("compare")(compare)
app.command("inspect")(inspect)
app.command("trajectories")(trajectories)
app.command("tune")(tune)
app.add_typer(paper, name="paper")
app.command("report")(report)
