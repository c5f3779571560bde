"""`quadric inspect`: look at a model's curvature, from a checkpoint to a report."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from quadric.cli.options import chosen_device, chosen_names, names_in
from quadric.cli.output import console, show

if TYPE_CHECKING:
    from quadric.bench.inspection.parts import Part, Wanted
    from quadric.bench.inspection.records import Finding
    from quadric.bench.inspection.subject import Subject

    Ended = Callable[[Part, Finding], None]

SUBJECT, WEIGHTS, PARTS, COST = "What is inspected", "Weights and mode", "What is measured", "Cost"


def inspect(
    out: Annotated[Path, typer.Option(help="Directory for records, results, figures and report.")],
    problem: Annotated[
        str | None, typer.Option(help="A named problem; `quadric list` shows them.", rich_help_panel=SUBJECT)
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            help="pkg.module:name of a torch module, of a quadric.Objective, or of a function returning one.",
            rich_help_panel=SUBJECT,
        ),
    ] = None,
    loss: Annotated[
        str | None,
        typer.Option(
            help="cross_entropy, mse, bce_with_logits, model (the model returns its loss), or pkg.module:function.",
            rich_help_panel=SUBJECT,
        ),
    ] = None,
    data: Annotated[
        str | None,
        typer.Option(
            help="pkg.module:name of a DataLoader, a list of batches or one batch, or of a function returning one.",
            rich_help_panel=SUBJECT,
        ),
    ] = None,
    params: Annotated[
        str | None,
        typer.Option(help="Parameters to look at: names or globs with commas between them.", rich_help_panel=SUBJECT),
    ] = None,
    max_examples: Annotated[
        int | None, typer.Option(min=1, help="Look at the first so many examples only.", rich_help_panel=SUBJECT)
    ] = None,
    data_dir: Annotated[
        Path | None, typer.Option(help="Directory with data sets of named problems.", rich_help_panel=SUBJECT)
    ] = None,
    checkpoint: Annotated[
        Path | None,
        typer.Option(help="A state_dict, saved by torch.save or as .safetensors.", rich_help_panel=WEIGHTS),
    ] = None,
    key: Annotated[
        str | None,
        typer.Option(help="The checkpoint's entry with the weights, if several could be.", rich_help_panel=WEIGHTS),
    ] = None,
    train: Annotated[
        bool, typer.Option("--train", help="Train mode; eval mode if left out.", rich_help_panel=WEIGHTS)
    ] = False,
    seed: Annotated[int, typer.Option(help="For starts, probes and random directions.", rich_help_panel=WEIGHTS)] = 0,
    curvature: Annotated[
        str,
        typer.Option(
            help="hessian, ggn, fisher, empirical-fisher: one or more with commas between.", rich_help_panel=PARTS
        ),
    ] = "hessian,ggn",
    top: Annotated[
        int | None, typer.Option(min=1, help="So many of the largest eigenvalues.", rich_help_panel=PARTS)
    ] = None,
    density: Annotated[
        bool, typer.Option("--density", help="Spectral density, shares negative and near zero.", rich_help_panel=PARTS)
    ] = False,
    classify: Annotated[
        bool, typer.Option("--classify", help="Minimum, saddle, … with the evidence.", rich_help_panel=PARTS)
    ] = False,
    sharpness: Annotated[
        bool, typer.Option("--sharpness", help="Sharpness and trace; with --lr, stability.", rich_help_panel=PARTS)
    ] = False,
    slices: Annotated[
        bool, typer.Option("--slices", help="The loss on lines and planes through the weights.", rich_help_panel=PARTS)
    ] = False,
    lr: Annotated[
        float | None, typer.Option(help="Learning rate whose stability is asked about.", rich_help_panel=PARTS)
    ] = None,
    momentum: Annotated[
        float, typer.Option(help="Heavy-ball momentum that goes with it.", rich_help_panel=PARTS)
    ] = 0.0,
    tol: Annotated[
        float, typer.Option(help="Tolerance of eigenvalues, relative to the largest.", rich_help_panel=PARTS)
    ] = 1e-4,
    points: Annotated[
        int, typer.Option(min=3, help="Points of a slice along each direction (odd).", rich_help_panel=PARTS)
    ] = 21,
    radius: Annotated[
        float,
        typer.Option(
            help="How far slices go: 1 is until the curvature alone doubles the loss, or a filter's length.",
            rich_help_panel=PARTS,
        ),
    ] = 1.0,
    microbatch: Annotated[
        int | None,
        typer.Option(min=1, help="Split batches into parts of so many examples, to save memory.", rich_help_panel=COST),
    ] = None,
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:1, …", rich_help_panel=COST)] = "cpu",
    threads: Annotated[int | None, typer.Option(min=1, help="CPU threads.", rich_help_panel=COST)] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Begin anew in the same directory.")] = False,
) -> None:
    """Look at the curvature of a loss at given weights: eigenvalues, their density, the kind of point, slices.

    All of it is measured where none of --top, --density, --classify, --sharpness, --slices is given.

    The same command again goes on where it was stopped; other parts are added to those that are there.

    Your modules are looked for in the working directory, too. Nothing in a checkpoint is ever executed.

    [bold]Examples[/bold]

    quadric inspect --problem digits-mlp --checkpoint digits.pt --out runs/look

    quadric inspect --model train:make_model --loss cross_entropy --data train:make_loader --checkpoint model.pt
    --curvature hessian,ggn --top 20 --density --classify --slices --microbatch 64 --out runs/look

    quadric inspect --model hf:make_model --loss model --data hf:make_loader --checkpoint model.safetensors
    --curvature hessian --top 5 --sharpness --lr 0.1 --out runs/look
    """
    import torch

    from quadric import problems
    from quadric.bench.inspection.parts import TOP, Wanted
    from quadric.bench.inspection.subject import CURVATURES, Settings, named_problem, own_problem

    _check_subject(problem, model, loss, data, data_dir)
    _check_numbers(lr, momentum, tol, points, radius)
    if key is not None and checkpoint is None:
        raise typer.BadParameter("is about --checkpoint, which is missing.", param_hint="--key")
    curvatures = chosen_names(curvature, CURVATURES, "curvature")
    place = chosen_device(device)
    settings = Settings(checkpoint, key, tuple(names_in(params or "")), max_examples, microbatch, train, seed, place)
    if problem is not None:
        threads = threads or problems.get(problem).threads
    if threads is not None:
        torch.set_num_threads(threads)
    with console().status("loading"):
        if problem is not None:
            subject = named_problem(problem, data_dir, settings)
        else:
            subject = own_problem(str(model), loss, str(data), settings)
    if not (top or density or classify or sharpness or slices or lr):
        top, density, classify, sharpness, slices = min(TOP, subject.dimension), True, True, True, True
    wanted = Wanted(
        curvatures, top, density, sharpness or lr is not None, classify, slices, tol, lr, momentum, points, radius
    )
    measure(subject, wanted, out, overwrite)


def measure(subject: Subject, wanted: Wanted, out: Path, overwrite: bool) -> None:
    """Measure what is not there yet, and report all that is."""
    from quadric.bench.environment import describe
    from quadric.bench.inspection.cost import check_room, costs, within_memory
    from quadric.bench.inspection.parts import plan
    from quadric.bench.inspection.point import check_unchanged, look
    from quadric.bench.inspection.records import InspectionHeader, InspectionRecorder
    from quadric.bench.inspection.run import run
    from quadric.report.directory import RECORDS, prepare
    from quadric.report.inspection.directory import earlier, write_report
    from quadric.report.inspection.tables import estimates

    before = earlier(out, subject.facts, overwrite)
    known = {} if before is None else before.findings
    parts = plan(subject, wanted, {name: finding.settings for name, finding in known.items()})
    missing = [part for part in parts if not (part.name in known and known[part.name].answers(part))]
    output = console()
    if before is not None:
        said = f"parts there already: {len(parts) - len(missing)} of {len(parts)}"
        output.print(f"{out}: {said}", highlight=False, markup=False, soft_wrap=True)
    failure: BaseException | None = None
    if before is not None and before.point is not None:
        with within_memory(), output.status("the loss, once"):
            check_unchanged(subject, parts[0].curvature, before.point)
    if missing:
        check_room(missing, subject)
        with within_memory(), output.status("one gradient and one product of each curvature"):
            point = look(subject, dict.fromkeys(part.curvature for part in missing))
        for text in [*point.remarks, *estimates(costs(missing, point, subject), point)]:
            output.print(text, highlight=False, markup=False)
        records = prepare(out, overwrite) if before is None else out / RECORDS
        header = InspectionHeader(subject.facts, describe(subject.settings.device))
        with InspectionRecorder(records, header) as recorder, live(missing) as (began, told, ended):
            if before is None or before.point is None:
                recorder.begin(point)
            try:
                results = {} if before is None else before.results
                with within_memory():
                    run(subject, missing, results, recorder, began=began, told=told, ended=ended)
            except (KeyboardInterrupt, Exception) as error:
                failure = error
    show(*write_report(out))
    if isinstance(failure, KeyboardInterrupt):
        raise RuntimeError("interrupted; the report has what was done until then, and the same command goes on.")
    if failure is not None:
        raise failure


def _check_subject(
    problem: str | None, model: str | None, loss: str | None, data: str | None, data_dir: Path | None
) -> None:
    """Raise BadParameter for options that don't go together, or names that are not known."""
    from quadric import problems
    from quadric.core.errors import unknown_name
    from quadric.problems.own.objectives import LOSSES, MODEL

    if problem is not None:
        if model or loss or data:
            raise typer.BadParameter("a named problem has its own model, loss and data.", param_hint="--problem")
        try:
            problems.get(problem)
        except ValueError as error:
            raise typer.BadParameter(str(error), param_hint="--problem") from error
    elif model is None or data is None:
        raise typer.BadParameter("give --problem, or --model and --data.", param_hint="--problem")
    elif data_dir is not None:
        raise typer.BadParameter("is for named problems.", param_hint="--data-dir")
    if loss is not None and ":" not in loss and loss not in (*LOSSES, MODEL):
        known = [*LOSSES, MODEL, "pkg.module:function"]
        raise typer.BadParameter(str(unknown_name("loss", loss, known)), param_hint="--loss")


def _check_numbers(lr: float | None, momentum: float, tol: float, points: int, radius: float) -> None:
    """Raise BadParameter for a number that is out of range."""
    for option, right, expected, value in (
        ("--lr", lr is None or 0 < lr < float("inf"), "a learning rate > 0", lr),
        ("--momentum", 0 <= momentum < 1, "a momentum from 0 to below 1", momentum),
        ("--tol", 0 < tol < 1, "a tolerance between 0 and 1", tol),
        ("--points", points % 2 == 1, "an odd number", points),
        ("--radius", 0 < radius < float("inf"), "a radius > 0", radius),
    ):
        if not right:
            raise typer.BadParameter(f"Expected {expected}, got {value}.", param_hint=option)


@contextmanager
def live(parts: list[Part]) -> Iterator[tuple[Callable[[Part], None], Callable[[Part, str], None], Ended]]:
    """A bar of finished parts with where the present one stands; not on a terminal, a line for each part that ends."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (
        *(BarColumn(), MofNCompleteColumn(), TextColumn("{task.description}"), TextColumn("{task.fields[state]}")),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console(), transient=True) as progress:
        task = progress.add_task("", total=len(parts), state="")

        def began(part: Part) -> None:
            progress.update(task, description=part.title, state="")

        def told(part: Part, text: str) -> None:
            progress.update(task, state=text)

        def ended(part: Part, finding: Finding) -> None:
            progress.advance(task)
            progress.console.print(f"{part.title}: done in {finding.seconds:.2f} s", highlight=False, markup=False)

        yield began, told, ended
