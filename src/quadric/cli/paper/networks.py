"""`quadric paper table2`, `figure2` and `figure3`: one set of runs of networks, and three ways to look at it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from quadric.bench.paper.networks import DEFAULT, NETWORKS, names
from quadric.cli.compare import Comparison, chosen
from quadric.cli.options import WORKERS, Scale, check_workers, chosen_names

if TYPE_CHECKING:
    import torch

Part = Literal["table2", "figure2", "figure3"]
AGAINST: dict[str, Literal["epochs", "seconds"]] = {"figure2": "epochs", "figure3": "seconds"}


def command(part: Part, summary: str) -> Callable[..., None]:
    """The command for one table or figure."""

    def run(
        scale: Annotated[
            Scale, typer.Option(help="What two cores can do, or all data and epochs, for a GPU.")
        ] = Scale.small,
        networks: Annotated[str, typer.Option(help=f"Names with commas: {', '.join(NETWORKS)}.")] = ",".join(DEFAULT),
        out: Annotated[Path, typer.Option(help="Directory for records and reports.")] = Path("runs/networks"),
        epochs: Annotated[int | None, typer.Option(min=1, help="Length of a run; the scale's if left out.")] = None,
        seeds: Annotated[int, typer.Option(min=1, help="Number of runs of each method; more may be added.")] = 1,
        overwrite: Annotated[bool, typer.Option("--overwrite", help="Begin anew in place of going on.")] = False,
        mix: Annotated[
            bool, typer.Option("--mix", help="Go on even if code, data or machine differ; the report says so.")
        ] = False,
        data_dir: Annotated[
            Path | None, typer.Option(help="Directory with data sets; QUADRIC_DATA may name one, too.")
        ] = None,
        device: Annotated[str, typer.Option(help="cpu, cuda, cuda:1, …")] = "cpu",
        threads: Annotated[int, typer.Option(min=1, help="CPU threads.")] = 1,
        workers: Annotated[int, typer.Option(min=1, help=WORKERS)] = 1,
    ) -> None:
        import torch

        torch.set_num_threads(threads)
        comparisons = {}
        for network in chosen_names(networks, NETWORKS, "networks"):
            task, entries, place = chosen(network, scale, ",".join(names(network)), device)
            comparisons[network] = Comparison(
                task, entries, out / network, epochs or task.epochs, None, range(seeds), data_dir
            )
        check_workers(workers, place, threads)
        carry_out(part, out, comparisons, place, workers, overwrite, mix)

    run.__doc__ = f"""{summary}

    CurveBall with λ adapted, with λ fixed and with nothing set, SGD with momentum and Adam. The same runs serve table2,
    figure2 and figure3: given the same directory, each goes on where another was interrupted, and draws.

    [bold]Examples[/bold]

    quadric paper {part} --scale small --out runs/networks

    quadric paper {part} --scale full --device cuda --out runs/networks-full

    quadric paper {part} --networks cifar10-cnn-bn,imagenet100-vgg-f --data-dir ~/data --out runs/two
    """
    return run


def carry_out(
    part: Part,
    out: Path,
    comparisons: dict[str, Comparison],
    place: torch.device,
    workers: int,
    overwrite: bool,
    mix: bool,
) -> None:
    """Run what is missing, then write and print the part's report.

    Raises:
        FileNotFoundError, ValueError: data or directory cannot be used; nothing was run.
        RuntimeError: after Ctrl-C, when the report of what was done has been printed.
    """
    from quadric.bench.records import read
    from quadric.cli.output import console, show
    from quadric.report.directory import RECORDS, write_report
    from quadric.report.networks import write

    for each in comparisons.values():
        each.check(place)
    records, interrupted = {}, False
    for network, each in comparisons.items():
        if not interrupted:
            console().print(f"{NETWORKS[network]}: {network}", highlight=False)
            interrupted = each.train(place, workers, overwrite, not overwrite, mix)
        if (each.out / RECORDS).exists() and any(run.evaluations for run in read(each.out / RECORDS).runs):
            records[network] = write_report(each.out)[0]
    if not records:
        raise RuntimeError("interrupted before anything was measured; the same command goes on.")
    show(*write(out, part, records, AGAINST.get(part)))
    if interrupted:
        raise RuntimeError("interrupted; the report has what was done until then, and the same command goes on.")
