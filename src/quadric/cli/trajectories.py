"""`quadric trajectories`: draw the ways of optimisers over the level lines of a function of two variables."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from quadric.bench.trajectories import Method
    from quadric.problems.planes import Plane, Window

LEAST_SQUARES = "sgd,momentum,adam,bfgs,curveball"
SCALAR = "sgd,momentum,adam,bfgs,saddle-free-newton"


def trajectories(
    out: Annotated[Path, typer.Option(help="Directory for records, figure and report.")],
    function: Annotated[
        str,
        typer.Option(
            help="rosenbrock, quadratic, beale, himmelblau, saddle, monkey-saddle, double-well, or your own as "
            "pkg.module:f, a torch function of a tensor [2] that returns f, or residuals r for f = ½‖r‖²."
        ),
    ] = "rosenbrock",
    start: Annotated[str | None, typer.Option(help="Where to start, x,y; the function's own if left out.")] = None,
    optimizers: Annotated[
        str | None,
        typer.Option(
            help="Names with commas between them (`quadric list` shows them), or label=name to have one twice. "
            f"By default {LEAST_SQUARES}; without residuals {SCALAR}."
        ),
    ] = None,
    steps: Annotated[int, typer.Option(min=1, help="Steps of each optimiser.")] = 100,
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="A hyper-parameter, label.name=value; may be given repeatedly.")
    ] = None,
    window: Annotated[
        str | None, typer.Option(help="The part to draw, x0,x1,y0,y1; chosen from the trajectories if left out.")
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace an earlier run in the same directory.")
    ] = False,
) -> None:
    """Draw the trajectories of optimisers over the level lines of a function of two variables, and f against steps.

    Where nothing is set, sgd, momentum and nesterov take half of 1 / the largest curvature at the start for their
    learning rate, and the others their defaults. A run that diverges is drawn until it leaves, and the reason is told.

    [bold]Examples[/bold]

    quadric trajectories --function rosenbrock --out runs/valley

    quadric trajectories --function quadratic --optimizers small=sgd,sgd,large=sgd --set small.lr=0.01
    --set large.lr=0.32 --out runs/rates

    quadric trajectories --function saddle --optimizers sgd,newton,saddle-free-newton
    --set newton.curvature=hessian --out runs/saddle

    quadric trajectories --function mycode:f --start 1,-0.5 --optimizers adam,bfgs --set adam.lr=0.05 --out runs/mine
    """
    import torch

    from quadric.bench.environment import describe
    from quadric.bench.trajectories import record
    from quadric.cli.output import console, show
    from quadric.report.directory import check_free, prepare
    from quadric.report.pages import write_report

    torch.set_num_threads(1)
    plane = chosen_plane(function, numbers(start, 2, "--start"), numbers(window, 4, "--window"))
    methods = chosen_methods(plane, optimizers, set_ or [])
    check_free(out, overwrite)
    records = prepare(out, overwrite)
    interrupted = False
    with console().status("") as status:
        running = record(plane, methods, steps, records, describe(torch.device("cpu")))
        for way in methods:
            status.update(f"{way.label}, {steps:,} steps")
            if (done := next(running, None)) is None:
                break
            interrupted = done.status == "interrupted"
        status.update("level lines")
        next(running, None)
    show(*write_report(out))
    if interrupted:
        raise RuntimeError("interrupted; the report has what was done until then.")


def chosen_plane(function: str, start: tuple[float, float] | None, window: Window | None) -> Plane:
    """The function that was named, with start and window as given.

    Raises:
        typer.BadParameter: there is none of that name, or the user's own cannot be had or used.
    """
    from dataclasses import replace

    from quadric.problems import planes
    from quadric.problems.own.reference import call, find
    from quadric.problems.planes import Plane

    try:
        if ":" in function:
            own = find(function)
            if not callable(own) or start is None:
                raise ValueError("a function of your own has to be callable, and needs --start x,y")
            plane = Plane(function, "", lambda x: call(function, lambda: own(x)), start)
        else:
            plane = planes.get(function)
        plane = replace(plane, start=start or plane.start, window=window or plane.window)
        if plane.window is not None and not (plane.window[0] < plane.window[1] and plane.window[2] < plane.window[3]):
            raise ValueError(f"expected a window x0 < x1, y0 < y1, got {plane.window}")
        plane.check()
    except (ValueError, TypeError) as error:
        raise typer.BadParameter(str(error), param_hint="--function") from error
    return plane


def chosen_methods(plane: Plane, optimizers: str | None, settings: list[str]) -> list[Method]:
    """The optimisers that were named, each with its settings, tried out on the function for one step.

    Raises:
        typer.BadParameter: names or settings that are not known, or an optimiser that cannot be used on this function.
    """
    from quadric.bench.trajectories import method
    from quadric.cli.options import names_in

    if optimizers is None:
        optimizers = LEAST_SQUARES if plane.residuals else SCALAR
    parts = [part.rpartition("=") for part in names_in(optimizers)]
    names = {label or name: name for label, _, name in parts}
    if not names or len(names) < len(parts):
        raise typer.BadParameter(f"Expected different labels, got {optimizers!r}.", param_hint="--optimizers")
    hyper: dict[str, dict[str, Any]] = {label: {} for label in names}
    for text in settings:
        label, key, value = setting(text)
        if label not in hyper:
            known = ", ".join(hyper)
            raise typer.BadParameter(f"{text!r} is for {label!r}; there are {known}.", param_hint="--set")
        hyper[label][key] = value
    methods = []
    for label, name in names.items():
        try:
            methods.append(method(label, name, hyper[label], plane))
        except (ValueError, TypeError) as error:
            scalar = name in ("newton", "newton-cg") and not plane.residuals
            hint = f" Or add --set {label}.curvature=hessian." if scalar else ""
            raise typer.BadParameter(f"{label}: {error}{hint}", param_hint="--optimizers") from error
    return methods


def setting(text: str) -> tuple[str, str, Any]:
    """Label, hyper-parameter and value of label.name=value; the value is a number, true, false, none, or a word."""
    from quadric.core.literal import literal

    place, equals, value = text.partition("=")
    label, dot, key = place.rpartition(".")
    if not (equals and dot and label and key and value):
        raise typer.BadParameter(f"Expected label.name=value, such as sgd.lr=0.01, got {text!r}.", param_hint="--set")
    return label, key, literal(value)


def numbers(text: str | None, count: int, option: str) -> Any:
    """So many finite numbers with commas between them; None stays."""
    from math import isfinite

    if text is None:
        return None
    try:
        values = tuple(float(part) for part in text.split(","))
    except ValueError:
        values = ()
    if len(values) != count or not all(map(isfinite, values)):
        raise typer.BadParameter(f"Expected {count} numbers with commas between them, got {text!r}.", param_hint=option)
    return values
