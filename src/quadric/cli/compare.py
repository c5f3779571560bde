"""`quadric compare`: train the same problem with several optimisers, record everything, and report."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from quadric.cli.options import chosen_device, names_in

if TYPE_CHECKING:
    import torch

    from quadric.bench.records import Event
    from quadric.bench.runner import Entry
    from quadric.problems import Problem

DEFAULT = "curveball,sgd,momentum,adam"


def compare(
    problem: Annotated[str, typer.Option(help="A problem; `quadric list` shows them.")],
    out: Annotated[Path, typer.Option(help="Directory for records, figures and report.")],
    optimizers: Annotated[
        str, typer.Option(help="Names with commas between them; `quadric list` shows them.")
    ] = DEFAULT,
    epochs: Annotated[int | None, typer.Option(min=1, help="Length of a run; the problem's own if left out.")] = None,
    seeds: Annotated[int, typer.Option(min=1, help="Number of runs per optimiser, with seeds 0, 1, 2, …")] = 3,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace an earlier run in the same directory.")
    ] = False,
    data_dir: Annotated[
        Path | None, typer.Option(help="Directory with data sets; QUADRIC_DATA may name one, too.")
    ] = None,
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:1, …")] = "cpu",
    threads: Annotated[int | None, typer.Option(min=1, help="CPU threads; the problem's own if left out.")] = None,
) -> None:
    """Train a problem with several optimisers, from the same starts on the same batches, and report who got where when.

    Learning rates of first-order optimisers come from a search that is part of the package; the others run as they are.
    Records are written while it runs: after Ctrl-C the report has all that was done until then.

    [bold]Examples[/bold]

    quadric compare --problem digits-mlp --optimizers curveball,sgd,adam --epochs 20 --seeds 3 --out runs/digits

    quadric compare --problem mnist-mlp --data-dir ~/data --out runs/mnist

    quadric compare --problem rosenbrock-u1 --optimizers curveball,momentum --seeds 10 --out runs/noise --overwrite
    """
    import torch

    from quadric.bench.environment import describe
    from quadric.bench.records import Header, Recorder
    from quadric.bench.runner import run, warm_up
    from quadric.cli.output import console, show
    from quadric.report.directory import check_free, prepare, write_report

    task, entries, place = chosen(problem, optimizers, device)
    check_free(out, overwrite)
    epochs = epochs or task.epochs
    torch.set_num_threads(threads or task.threads)
    draw = task.open(data_dir, place)
    with console().status("warming up"):
        warm_up(task, entries, draw, place)
    records = prepare(out, overwrite)
    header = Header(described(task), [asdict(entry) for entry in entries], epochs, list(range(seeds)), describe(place))
    interrupted = False
    with Recorder(records, header) as recorder, live(entries, epochs, seeds) as advance:
        try:
            for event in run(task, entries, draw, epochs=epochs, seeds=range(seeds), device=place):
                recorder.write(event)
                advance(event)
        except KeyboardInterrupt:
            interrupted = True
    show(*write_report(out)[1:])
    if interrupted:
        raise RuntimeError("interrupted; the report has what was done until then.")


def chosen(problem: str, optimizers: str, device: str) -> tuple[Problem, list[Entry], torch.device]:
    """What the names on the command line stand for.

    Raises:
        typer.BadParameter: a name that is not known, or given twice, or a device that is not there.
    """
    from quadric import optim, problems
    from quadric.bench.rates import entry

    names = names_in(optimizers)
    try:
        task = problems.get(problem)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--problem") from error
    try:
        for name in names:
            optim.summary(name)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--optimizers") from error
    if not names or len(set(names)) < len(names):
        raise typer.BadParameter(f"Expected different names, got {optimizers!r}.", param_hint="--optimizers")
    return task, [entry(problem, name) for name in names], chosen_device(device)


def described(problem: Problem) -> dict[str, Any]:
    """What the record says of the problem."""
    target = problem.target
    return {
        "name": problem.name,
        "summary": problem.summary,
        "batch_size": problem.batch_size,
        "target": {
            "text": str(target),
            "metric": target.metric,
            "threshold": target.threshold,
            "origin": target.origin,
        },
        "facts": problem.facts,
    }


@contextmanager
def live(entries: list[Entry], epochs: int, seeds: int) -> Iterator[Callable[[Event], None]]:
    """A bar for every optimiser; where the output is not a terminal, a line for every run that ends."""
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    from quadric.bench.records import End, Evaluation
    from quadric.cli.output import console
    from quadric.report.tables import number

    columns = TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[state]}"), TimeElapsedColumn()
    with Progress(*columns, console=console(), transient=True) as progress:
        tasks = {entry.name: progress.add_task(entry.name, total=epochs * seeds, state="") for entry in entries}

        def advance(event: Event) -> None:
            if isinstance(event, Evaluation):
                state = f"seed {event.seed}  step {event.step:,}  train loss {shown(event.train_loss, '.4g')}"
                if event.test_error is not None:
                    state += f"  test error {event.test_error:.1%}"
                progress.update(tasks[event.optimizer], completed=event.seed * epochs + event.epoch, state=state)
            elif isinstance(event, End):
                progress.update(tasks[event.optimizer], completed=(event.seed + 1) * epochs)
                if not progress.console.is_terminal:
                    text = f"{event.optimizer}, seed {event.seed}: {event.status} after {number(event.steps, 'step')}"
                    progress.console.print(f"{text} and {event.seconds:.2f} s ({event.reason})", highlight=False)

        yield advance


def shown(value: float | None, form: str) -> str:
    """A number that may be missing."""
    return "–" if value is None else format(value, form)
