"""`quadric paper`: the tables and figures of the CurveBall paper, one command and one file each."""

from __future__ import annotations

import typer

from quadric.cli.paper.figure1 import figure1
from quadric.cli.paper.table1 import table1

paper = typer.Typer(
    help="Repeat the tables and figures of the CurveBall paper (Henriques et al., 2019), beside the published figures.",
    no_args_is_help=True,
    rich_markup_mode="rich",
)
paper.command("table1")(table1)
paper.command("figure1")(figure1)
