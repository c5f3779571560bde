"""`quadric tune`: search for the hyper-parameters of an optimiser on a problem."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from quadric.cli.options import Scale, check_seconds, chosen_device

if TYPE_CHECKING:
    import torch

    from quadric.bench.search.space import Dimension
    from quadric.bench.search.study import Study
    from quadric.bench.search.trials import Outcome, Task
    from quadric.core.records import Layout
    from quadric.problems import Problem

TRIALS = 30
HOLDOUT = 0.2
SEEDS = 3
"""Without folds, so that the spread of a setting is known."""


def tune(
    out: Annotated[Path, typer.Option(help="Directory for records, study, figure and report.")],
    problem: Annotated[str | None, typer.Option(help="One problem; `quadric list` shows them.")] = None,
    model: Annotated[
        str | None, typer.Option(help="In its place pkg.module:name of a function that makes your torch module.")
    ] = None,
    loss: Annotated[
        str | None, typer.Option(help="With --model: cross_entropy, mse, bce_with_logits, or pkg.module:function.")
    ] = None,
    data: Annotated[
        str | None,
        typer.Option(help="With --model: pkg.module:name of a DataLoader of training examples, or a function for one."),
    ] = None,
    optimizer: Annotated[
        str | None, typer.Option(help="One optimiser; `quadric list` shows them. With --auto some, with commas.")
    ] = None,
    space: Annotated[
        str | None,
        typer.Option(
            help="Hyper-parameters with commas between them: lr=0.1:1, damping=log:1e-4:1, rank=int:5:50, "
            "structure=full|diagonal, or curvature=hessian to fix one."
        ),
    ] = None,
    auto: Annotated[
        bool, typer.Option("--auto", help="Try methods, too, each for --seconds, and recommend one.")
    ] = False,
    scale: Annotated[
        Scale, typer.Option(help="Of problems with two sizes: what two cores can do, or all data and epochs.")
    ] = Scale.small,
    search: Annotated[
        Literal["tpe", "random", "grid", "halton"],
        typer.Option(
            help="tpe learns from the trials before; grid tries every combination of --points; halton fills the space "
            "evenly, which suits few trials."
        ),
    ] = "tpe",
    trials: Annotated[
        int | None,
        typer.Option(
            min=1,
            help=f"Trials of the study in all, earlier ones included; {TRIALS} without a budget. With --auto runs in "
            "all, those of the finals included.",
        ),
    ] = None,
    budget: Annotated[
        float | None,
        typer.Option(help="Seconds that this call may take; with --auto the whole search, by an estimate of its runs."),
    ] = None,
    points: Annotated[int, typer.Option(min=2, help="Values of each range in a grid.")] = 5,
    folds: Annotated[
        int | None, typer.Option(min=2, help="Judge by k-fold cross-validation on the training examples.")
    ] = None,
    holdout: Annotated[
        float | None,
        typer.Option(
            help=f"Judge on this share of the training examples, held out once; {HOLDOUT:g} if nothing is said and "
            "the problem has test examples or is your own, else 0: the train loss judges."
        ),
    ] = None,
    seeds: Annotated[
        int | None,
        typer.Option(
            min=1,
            help=f"Starting weights that each setting is judged with; {SEEDS}, or 1 with folds, if left out. With "
            "--auto those of the finals; 5 if left out.",
        ),
    ] = None,
    metric: Annotated[Literal["loss", "error"], typer.Option(help="What is to be small at the end of a run.")] = "loss",
    epochs: Annotated[int | None, typer.Option(min=1, help="Length of a run; the problem's own if left out.")] = None,
    seconds: Annotated[
        float | None,
        typer.Option(help="Seconds of training of a run, in the place of epochs unless --epochs is given, too."),
    ] = None,
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
    mix: Annotated[
        bool, typer.Option("--mix", help="Go on even if code or machine differ; the report says so.")
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

    The same command again goes on with the search, after Ctrl-C too; more --trials or another --budget add to it. It
    refuses other code or another machine than the record is from, unless --mix is given, and the report says so then.

    With --auto it searches several methods, first-order and second-order, at equal time for each run: those that do
    better get more tries, the last few are run again with fresh seeds, and it says how sure the recommendation is.

    [bold]Examples[/bold]

    quadric tune --problem digits-mlp --optimizer newton --space "damping=log:1e-4:1,correction=log:1e-6:1e-1"
    --trials 30 --out runs/tune

    quadric tune --problem digits-mlp --optimizer momentum --space "lr=log:1e-3:1,momentum=0.5:0.99" --folds 5
    --budget 60 --out runs/momentum

    quadric tune --problem digits-mlp --optimizer kfac --space "damping=log:1e-4:1" --search grid --points 9
    --seeds 3 --out runs/kfac

    quadric tune --auto --problem digits-mlp --seconds 1 --budget 90 --out runs/auto

    quadric tune --auto --model train:make_model --loss cross_entropy --data train:make_loader --seconds 20
    --budget 1800 --out runs/mine

    quadric tune --problem mnist-mlp --optimizer adam --space "lr=log:1e-4:1e-1" --study sqlite:///adam.db --seed 1
    --out runs/adam-1
    """
    import torch

    from quadric.bench.environment import describe
    from quadric.bench.search.records import LAYOUT
    from quadric.bench.search.study import Study, needed, run
    from quadric.cli.tune_auto import Options, recommend
    from quadric.report.directory import STUDY
    from quadric.report.tables import length

    needed()
    check_seconds(budget, "--budget")
    check_seconds(seconds)
    if not auto and (optimizer is None or space is None):
        raise typer.BadParameter("Name an --optimizer and its --space, or let --auto try methods.")
    dimensions = [] if auto or space is None else chosen_space(space)
    source = chosen_problem(problem, model, loss, data).at(scale)
    if model is not None and epochs is None and seconds is None:
        raise typer.BadParameter("Say how long a run of your own problem is: give --epochs or --seconds.")
    place = chosen_device(device)
    judged = {"folds": folds, "holdout": holdout, "seeds": seeds}
    extent = epochs or (None if seconds else source.epochs), seconds
    if auto:
        given = {"--space": space, "--folds": folds, "--study": study, "--search": None if search == "tpe" else search}
        refused = [name for name, value in given.items() if value is not None]
        if refused:
            raise typer.BadParameter(f"{refused[0]} does not go with --auto, which has its own.")
        options = Options(optimizer, trials, budget, seeds, seed, overwrite, mix, threads)
        recommend(
            chosen_task(source, "sgd", extent, {"holdout": holdout, "seeds": 1}, metric, data_dir, place), out, options
        )
        return
    task = chosen_task(source, str(optimizer), extent, judged, metric, data_dir, place)
    torch.set_num_threads(threads or task.problem.threads)
    signature = {
        "optimiser": task.method,
        "space": ", ".join(f"{each.name}={each}" for each in dimensions),
        **described(task),
    }
    check_directory(out, LAYOUT, signature, overwrite)
    needs = check_settings(task, dimensions)
    if budget is not None and budget < needs:
        raise typer.BadParameter(
            f"One trial takes up to about {needs:.3g} s ({length(*extent)} × {len(task.judging.runs)} runs), "
            f"more than {budget:g} s: raise the budget, or lower --epochs, --folds or --seeds.",
            param_hint="--budget",
        )
    header = {"search": signature, "environment": describe(place)}
    shared = None if study is None else Study(study, study_name, signature, dimensions, seed)
    begin(out, LAYOUT, header, overwrite)
    if shared is None:
        mine = Study(str(out / STUDY), study_name, signature, dimensions, seed)
        mine.release()
    searching = shared or mine
    searching.choose(search, points)
    wanted = TRIALS if trials is None and budget is None and search != "grid" else trials
    if searching.queued if search == "grid" else wanted is None or len(searching.trials) < wanted:
        go_on(out, LAYOUT, header["environment"], mix)
    carry_out(searching, task, out, run(searching, task, trials=wanted, budget=budget, grid=search == "grid"))


def chosen_space(text: str) -> list[Dimension]:
    """The space. Raises typer.BadParameter where it is none."""
    from quadric.bench.search.space import parse

    try:
        return parse(text)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--space") from error


def chosen_problem(problem: str | None, model: str | None, loss: str | None, data: str | None) -> Problem:
    """The named problem, or the user's own. Raises typer.BadParameter where neither is named, or not known."""
    from quadric import problems
    from quadric.problems.own.problem import own_problem

    if problem is not None and (model or loss or data) is not None:
        raise typer.BadParameter(
            "--problem names a model, loss and data of its own: leave out --model, --loss, --data."
        )
    if problem is None and (model is None or loss is None or data is None):
        raise typer.BadParameter("Name a --problem, or your own by --model, --loss and --data.")
    try:
        return problems.get(problem) if problem else own_problem(str(model), str(loss), str(data))
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--problem" if problem else "--model") from error


def chosen_task(
    known: Problem,
    optimizer: str,
    extent: tuple[int | None, float | None],
    judged: dict[str, Any],
    metric: Literal["loss", "error"],
    data_dir: Path | None,
    device: torch.device,
) -> Task:
    """What is to be searched for, with its data; `extent` has a run's epochs and seconds, `judged` folds and the like.

    Raises:
        typer.BadParameter: an optimiser that is not known, or a way to judge that does not suit the problem.
    """
    from quadric import optim
    from quadric.bench.search.folds import FIRST_SEED, Judging, without_test
    from quadric.bench.search.trials import Task

    folds, holdout, seeds = judged.get("folds"), judged["holdout"], judged["seeds"]
    if folds is not None and holdout is not None:
        raise typer.BadParameter("--folds and --holdout exclude each other.")
    if holdout is not None and not 0 <= holdout < 1:
        raise typer.BadParameter(f"Expected a share from 0 to below 1, got {holdout:g}.", param_hint="--holdout")
    try:
        optim.summary(optimizer)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--optimizer") from error
    draw = known.open(data_dir, device)
    if folds is None and holdout is None and (draw(FIRST_SEED).test or known.own):
        holdout = HOLDOUT
    judging = Judging(folds or 0, holdout or 0.0, seeds or (1 if folds else SEEDS))
    task = Task(known, without_test(draw), optimizer, judging, extent[0], metric, device, extent[1])
    try:
        task.check()
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
    return task


def described(task: Task) -> dict[str, Any]:
    """What makes a search this one and no other, but for the methods and their spaces."""
    from quadric.bench.fingerprint import fingerprint
    from quadric.bench.search.folds import FIRST_SEED

    return {
        "problem": task.problem.label,
        "judged by": str(task.judging),
        "metric": task.metric,
        "epochs": task.epochs,
        **({} if task.seconds is None else {"seconds": task.seconds}),
        "data": fingerprint(task.draw(FIRST_SEED)),
    }


def check_directory(out: Path, layout: Layout, signature: dict[str, Any], overwrite: bool) -> None:
    """Raise what says why the directory cannot be used: it holds another search, or something else."""
    from quadric.bench.journal import header_kind
    from quadric.bench.search.records import check_same
    from quadric.report.directory import RECORDS, check_free

    if not overwrite and header_kind(out / RECORDS) == layout.header:
        check_same(str(out), layout.read_header(out / RECORDS, dict)["search"], signature)
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


def begin(out: Path, layout: Layout, header: dict[str, Any], overwrite: bool) -> None:
    """Make the directory and its record file, or leave those that are there to go on with."""
    from quadric.bench.journal import Journal
    from quadric.report.directory import RECORDS, prepare

    if overwrite or not (out / RECORDS).exists():
        prepare(out, overwrite)
        with Journal(out / RECORDS, layout, header):
            pass


def go_on(out: Path, layout: Layout, environment: dict[str, str], mix: bool) -> None:
    """Note in the record where it goes on, if that is elsewhere. Raises ValueError where it is, without `mix`."""
    from quadric.bench.continuation import check_alike, differences
    from quadric.bench.journal import Journal
    from quadric.bench.search import recommendation, records
    from quadric.report.directory import RECORDS

    reader = recommendation if layout is recommendation.LAYOUT else records
    before = reader.read(out / RECORDS).environments
    if not mix:
        check_alike(out, before, environment)
    elif differences(before[-1], environment):
        with Journal(out / RECORDS, layout, {}) as lines:
            lines.write("moved", {"environment": environment})


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
