"""`quadric tune`: search for the hyper-parameters of an optimiser on a problem."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from quadric.cli.options import chosen_device

if TYPE_CHECKING:
    import torch

    from quadric.bench.search.space import Dimension
    from quadric.bench.search.study import Study
    from quadric.bench.search.trials import Outcome, Task

TRIALS = 30
HOLDOUT = 0.2
SEEDS = 3
"""Without folds, so that the spread of a setting is known."""


def tune(
    problem: Annotated[str, typer.Option(help="One problem; `quadric list` shows them.")],
    optimizer: Annotated[str, typer.Option(help="One optimiser; `quadric list` shows them.")],
    space: Annotated[
        str,
        typer.Option(
            help="Hyper-parameters with commas between them: lr=0.1:1, damping=log:1e-4:1, rank=int:5:50, "
            "structure=full|diagonal, or curvature=hessian to fix one."
        ),
    ],
    out: Annotated[Path, typer.Option(help="Directory for records, study, figure and report.")],
    search: Annotated[
        Literal["tpe", "random", "grid"],
        typer.Option(help="tpe learns from the trials before; grid tries every combination of --points."),
    ] = "tpe",
    trials: Annotated[
        int | None,
        typer.Option(min=1, help=f"Trials of the study in all, earlier ones included; {TRIALS} without a budget."),
    ] = None,
    budget: Annotated[float | None, typer.Option(help="Seconds that this call may take.")] = None,
    points: Annotated[int, typer.Option(min=2, help="Values of each range in a grid.")] = 5,
    folds: Annotated[
        int | None, typer.Option(min=2, help="Judge by k-fold cross-validation on the training examples.")
    ] = None,
    holdout: Annotated[
        float | None,
        typer.Option(
            help=f"Judge on this share of the training examples, held out once; {HOLDOUT:g} if nothing is said and "
            "the problem has test examples, else the train loss judges."
        ),
    ] = None,
    seeds: Annotated[
        int | None,
        typer.Option(
            min=1, help=f"Starting weights that each setting is judged with; {SEEDS}, or 1 with folds, if left out."
        ),
    ] = None,
    metric: Annotated[Literal["loss", "error"], typer.Option(help="What is to be small at the end of a run.")] = "loss",
    epochs: Annotated[int | None, typer.Option(min=1, help="Length of a run; the problem's own if left out.")] = None,
    study: Annotated[
        str | None,
        typer.Option(
            help="A file or the URL of a database (sqlite:///, postgresql://, …) in the place of one in --out: several "
            "processes and machines that name it work on the same search, each with an --out and a --seed of its own."
        ),
    ] = None,
    study_name: Annotated[str, typer.Option(help="The study's name, where a database has several.")] = "quadric",
    seed: Annotated[int, typer.Option(min=0, help="Of the search's own random numbers.")] = 0,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Begin anew in the directory; a --study elsewhere is left alone.")
    ] = False,
    data_dir: Annotated[
        Path | None, typer.Option(help="Directory with data sets; QUADRIC_DATA may name one, too.")
    ] = None,
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:1, …")] = "cpu",
    threads: Annotated[int | None, typer.Option(min=1, help="CPU threads; the problem's own if left out.")] = None,
) -> None:
    """Search for the hyper-parameters of an optimiser: damping, correction, learning rate, momentum, rank, anything.

    Settings are judged on training examples that are held out, in folds or once; the search never sees the test
    examples. A setting that does worse in its first run than the median of the others is given up. It prints the best
    with its uncertainty, what it can't be told from, which hyper-parameters matter, and the line of Python to use it.

    The same command again goes on with the search, after Ctrl-C too; more --trials or another --budget add to it.

    [bold]Examples[/bold]

    quadric tune --problem digits-mlp --optimizer newton --space "damping=log:1e-4:1,correction=log:1e-6:1e-1"
    --trials 30 --out runs/tune

    quadric tune --problem digits-mlp --optimizer momentum --space "lr=log:1e-3:1,momentum=0.5:0.99" --folds 5
    --budget 60 --out runs/momentum

    quadric tune --problem digits-mlp --optimizer kfac --space "damping=log:1e-4:1" --search grid --points 9
    --seeds 3 --out runs/kfac

    quadric tune --problem mnist-mlp --optimizer adam --space "lr=log:1e-4:1e-1" --study sqlite:///adam.db --seed 1
    --out runs/adam-1
    """
    import torch

    from quadric.bench.environment import describe
    from quadric.bench.fingerprint import fingerprint
    from quadric.bench.search.folds import FIRST_SEED
    from quadric.bench.search.study import Study, needed, run
    from quadric.report.directory import STUDY

    needed()
    dimensions = chosen_space(space)
    if budget is not None and not budget > 0:
        raise typer.BadParameter(f"Expected seconds above 0, got {budget:g}.", param_hint="--budget")
    place = chosen_device(device)
    task = chosen_task(problem, optimizer, epochs, folds, holdout, seeds, metric, data_dir, place)
    torch.set_num_threads(threads or task.problem.threads)
    signature = {
        "problem": task.problem.name,
        "optimiser": task.method,
        "space": ", ".join(f"{each.name}={each}" for each in dimensions),
        "judged by": str(task.judging),
        "metric": task.metric,
        "epochs": task.epochs,
        "data": fingerprint(task.draw(FIRST_SEED)),
    }
    check_directory(out, signature, overwrite)
    seconds = check_settings(task, dimensions)
    if budget is not None and budget < seconds:
        raise typer.BadParameter(
            f"One trial takes up to about {seconds:.3g} s ({task.epochs} epochs × {len(task.judging.runs)} runs), "
            f"more than {budget:g} s: raise the budget, or lower --epochs, --folds or --seeds.",
            param_hint="--budget",
        )
    header = {"search": signature, "environment": describe(place)}
    shared = None if study is None else Study(study, study_name, signature, dimensions, seed)
    begin(out, header, overwrite)
    if shared is None:
        mine = Study(str(out / STUDY), study_name, signature, dimensions, seed)
        mine.release()
    searching = shared or mine
    searching.choose(search, points)
    wanted = TRIALS if trials is None and budget is None and search != "grid" else trials
    carry_out(searching, task, out, run(searching, task, trials=wanted, budget=budget, grid=search == "grid"))


def chosen_space(text: str) -> list[Dimension]:
    """The space. Raises typer.BadParameter where it is none."""
    from quadric.bench.search.space import parse

    try:
        return parse(text)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--space") from error


def chosen_task(
    problem: str,
    optimizer: str,
    epochs: int | None,
    folds: int | None,
    holdout: float | None,
    seeds: int | None,
    metric: Literal["loss", "error"],
    data_dir: Path | None,
    device: torch.device,
) -> Task:
    """What is to be searched for, with its data.

    Raises:
        typer.BadParameter: a name that is not known, or a way to judge that does not suit the problem.
    """
    from quadric import optim, problems
    from quadric.bench.search.folds import FIRST_SEED, Judging, without_test
    from quadric.bench.search.trials import Task

    if folds is not None and holdout is not None:
        raise typer.BadParameter("--folds and --holdout exclude each other.")
    if holdout is not None and not 0 < holdout < 1:
        raise typer.BadParameter(f"Expected a share between 0 and 1, got {holdout:g}.", param_hint="--holdout")
    try:
        known = problems.get(problem)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--problem") from error
    try:
        optim.summary(optimizer)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--optimizer") from error
    draw = known.open(data_dir, device)
    if folds is None and holdout is None and draw(FIRST_SEED).test:
        holdout = HOLDOUT
    judging = Judging(folds or 0, holdout or 0.0, seeds or (1 if folds else SEEDS))
    task = Task(known, without_test(draw), optimizer, judging, epochs or known.epochs, metric, device)
    try:
        task.check()
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
    return task


def check_directory(out: Path, signature: dict[str, Any], overwrite: bool) -> None:
    """Raise what says why the directory cannot be used: it holds another search, or something else."""
    from quadric.bench.journal import header_kind
    from quadric.bench.search.records import LAYOUT, check_same, read
    from quadric.report.directory import RECORDS, check_free

    if not overwrite and header_kind(out / RECORDS) == LAYOUT.header:
        check_same(str(out), read(out / RECORDS).header["search"], signature)
    else:
        check_free(out, overwrite)


def check_settings(task: Task, space: list[Dimension]) -> float:
    """Seconds that one trial takes, by the slowest of settings at the ends of the space.

    Raises typer.BadParameter where the optimiser does not take a setting.
    """
    from quadric.bench.search.space import extremes
    from quadric.bench.search.trials import estimate
    from quadric.cli.output import console

    longest = 0.0
    with console().status("trying the ends of the space"):
        for hyper in extremes(space):
            try:
                longest = max(longest, estimate(task, hyper))
            except (ValueError, TypeError) as error:
                raise typer.BadParameter(str(error), param_hint="--space") from error
    return longest


def begin(out: Path, header: dict[str, Any], overwrite: bool) -> None:
    """Make the directory and its record file, or leave those that are there to go on with."""
    from quadric.bench.journal import Journal
    from quadric.bench.search.records import LAYOUT
    from quadric.report.directory import RECORDS, prepare

    if overwrite or not (out / RECORDS).exists():
        prepare(out, overwrite)
        with Journal(out / RECORDS, LAYOUT, header):
            pass


def carry_out(study: Study, task: Task, out: Path, outcomes: Iterator[Outcome]) -> None:
    """Try settings, record every trial that the study has as it ends, and print the report.

    Raises:
        ValueError: the directory has trials that the study does not.
        RuntimeError: after Ctrl-C, when the report of what was done has been printed.
    """
    from dataclasses import asdict

    from quadric.bench.journal import Journal
    from quadric.bench.search.records import LAYOUT, read
    from quadric.cli.output import console, show
    from quadric.report.directory import RECORDS
    from quadric.report.pages import write_report

    header, known = LAYOUT.read_header(out / RECORDS, dict), {each.number for each in read(out / RECORDS).trials}
    if not known <= {each.number for each in study.trials}:
        raise ValueError(f"{out} holds trials that the study does not have: name the study it was begun with.")
    interrupted = False
    best = float("inf")
    with Journal(out / RECORDS, LAYOUT, header) as lines, console().status("") as status:

        def mirror() -> None:
            nonlocal best
            for each in study.trials:
                if each.number not in known:
                    known.add(each.number)
                    lines.write("trial", asdict(each))
                if each.scores:
                    best = min(best, each.value)
            status.update(f"{len(known)} trials, lowest {task.metric} {best:.4g}")

        try:
            mirror()
            for _ in outcomes:
                mirror()
        except KeyboardInterrupt:
            interrupted = True
        mirror()
        shares = study.importance()
        if shares:
            lines.write("importance", {"shares": shares})
    if not read(out / RECORDS).finished:
        ended = "interrupted before a trial was finished" if interrupted else "no trial finished, all diverged"
        raise RuntimeError(f"{ended}; the same command goes on.")
    show(*write_report(out))
    if interrupted:
        raise RuntimeError("interrupted; the report has what was done until then, and the same command goes on.")
