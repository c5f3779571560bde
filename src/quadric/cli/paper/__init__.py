"""`quadric paper`: the tables and figures of the CurveBall paper, one command and one file each."""

from __future__ import annotations

import typer

from quadric.cli.paper.figure1 import figure1
from quadric.cli.paper.networks import command
from quadric.cli.paper.table1 import table1

paper = typer.Typer(
    help="Repeat the tables and figures of the CurveBall paper (Henriques et al., 2019), beside the published figures.",
    no_args_is_help=True,
    rich_markup_mode="rich",
)
paper.command("table1")(table1)
paper.command("figure1")(figure1)
paper.command("table2")(command("table2", "Train and validation error of networks on CIFAR-10, beside the published."))
paper.command("figure2")(command("figure2", "Train and validation error of networks on CIFAR-10 against epochs."))
paper.command("figure3")(command("figure3", "Train and validation error of networks on CIFAR-10 against seconds."))
