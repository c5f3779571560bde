"""`quadric tune --auto`: search over methods, and recommend one."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from quadric.cli.options import chosen_names

if TYPE_CHECKING:
    from quadric.bench.search.halving import Contender, Plan
    from quadric.bench.search.trials import Task

REPEATS = 5
TRIES = 6
"""Runs of the search for each method, where neither trials nor a budget is given."""


@dataclass(frozen=True)
class Options:
    """What was asked for: methods, runs or seconds in all, repeats of the finals, and the rest of the command line."""

    methods: str | None
    trials: int | None
    budget: float | None
    seeds: int | None
    seed: int
    overwrite: bool
    mix: bool
    threads: int | None


def recommend(task: Task, out: Path, options: Options) -> None:
    """Search over methods for `task`, whose own method does not matter, and print what is recommended.

    Raises:
        typer.BadParameter: runs without a length in seconds, methods that are not known or don't suit the model, or a
            budget that is too small.
        RuntimeError: after Ctrl-C, when the report of what was done has been printed.
    """
    import torch

    from quadric.bench.environment import describe
    from quadric.bench.search.methods import CANDIDATES
    from quadric.bench.search.recommendation import LAYOUT, read
    from quadric.cli.tune import begin, check_directory, described, go_on
    from quadric.report.directory import RECORDS
    from quadric.report.tables import length

    if task.seconds is None:
        raise typer.BadParameter(
            "--auto compares methods at equal time, since their steps cost differently: give --seconds, the length of "
            "a run."
        )
    names = chosen_names(options.methods or ",".join(CANDIDATES), CANDIDATES, "optimizer")
    torch.set_num_threads(options.threads or task.problem.threads)
    repeats = options.seeds or REPEATS
    runs = (
        f"{options.budget:g} s" if options.budget and options.trials is None else f"{options.trials or 'default'} runs"
    )
    signature = {
        "methods": ", ".join(names),
        **described(task),
        "a run": length(task.epochs, task.seconds),
        "budget": runs,
        "seeds": repeats,
    }
    check_directory(out, LAYOUT, signature, options.overwrite)
    if options.overwrite or not (out / RECORDS).exists():
        spaces, refused, cost = usable(task, names)
        plan = chosen_plan(len(spaces), cost, repeats, options)
        header = {
            "search": signature,
            "spaces": spaces,
            "left out": refused,
            "plan": {**asdict(plan), "rungs": [[rung.methods, rung.tries] for rung in plan.rungs]},
            "environment": describe(task.device),
        }
        begin(out, LAYOUT, header, options.overwrite)
    if len((race := read(out / RECORDS)).attempts) < race.plan.runs:
        go_on(out, LAYOUT, describe(task.device), options.mix)
    carry_out(task, out, options.seed)


def usable(task: Task, names: tuple[str, ...]) -> tuple[dict[str, str], dict[str, str], float]:
    """The spaces of the methods that take the model, the reasons of those that don't, and the seconds of a run.

    Raises typer.BadParameter where none does.
    """
    from quadric.bench.search.methods import CANDIDATES
    from quadric.bench.search.space import extremes, parse
    from quadric.bench.search.trials import estimate
    from quadric.cli.output import console

    spaces: dict[str, str] = {}
    refused: dict[str, str] = {}
    cost = 0.0
    with console().status("trying every method"):
        for name in names:
            space = parse(CANDIDATES[name].space)
            try:
                found = [estimate(replace(task, method=name), hyper) for hyper in extremes(space)]
            except (ValueError, TypeError, NotImplementedError) as error:
                refused[name] = str(error)
                continue
            spaces[name] = CANDIDATES[name].space
            cost = max(cost, *found)
    if not spaces:
        reasons = "; ".join(f"{name}: {reason}" for name, reason in refused.items())
        raise typer.BadParameter(f"No method takes this model. {reasons}", param_hint="--optimizer")
    return spaces, refused, cost


def chosen_plan(methods: int, cost: float, repeats: int, options: Options) -> Plan:
    """How many runs there are, and what for. Raises typer.BadParameter where they are too few."""
    from quadric.bench.search.halving import fewest, planned

    least = fewest(methods, repeats)
    runs = options.trials or (int(options.budget / cost) if options.budget else least + (TRIES - 1) * methods)
    try:
        return planned(methods, runs, repeats)
    except ValueError as error:
        hint = "--trials" if options.trials else "--budget"
        raise typer.BadParameter(
            f"{error} A run takes up to about {cost:.3g} s, so {least * cost:.3g} s do: raise {hint}, lower --seconds "
            "or --seeds, or name fewer methods.",
            param_hint=hint,
        ) from error


def carry_out(task: Task, out: Path, seed: int) -> None:
    """Make the runs that the record lacks, write each as it ends, and print the report."""
    from quadric.bench.journal import Journal
    from quadric.bench.search.halving import finalists, finals, search
    from quadric.bench.search.recommendation import LAYOUT, Attempt, read
    from quadric.cli.output import console, show
    from quadric.report.directory import RECORDS
    from quadric.report.pages import write_report

    race = read(out / RECORDS)
    plan, contenders = race.plan, opened(task, out, race.header, seed)
    known = {(each.method, each.number) for each in race.attempts if each.stage == "search"}
    over = {(each.method, each.number) for each in race.attempts if each.stage == "final"}
    interrupted = False
    header = LAYOUT.read_header(out / RECORDS, dict)
    with Journal(out / RECORDS, LAYOUT, header) as lines, console().status("") as status:

        def write(*values: Any) -> None:
            lines.write("attempt", asdict(Attempt(*values)))
            status.update(f"{len(known) + len(over)} of {plan.runs} runs, {values[1]}: {values[0]}")

        def mirror() -> None:
            for name, contender in contenders.items():
                for each in contender.study.trials:
                    if (name, each.number) not in known:
                        known.add((name, each.number))
                        score = each.value if each.scores else None
                        write(name, "search", each.number, each.hyper, each.status, each.reason, each.seconds, score)

        try:
            mirror()
            for _ in search(contenders, plan):
                mirror()
            settings = finalists(contenders, plan)
            for name, fresh, outcome in finals(contenders, settings, plan, set(over)):
                over.add((name, fresh))
                score = outcome.value if outcome.scores else None
                hyper = settings[name]
                write(name, "final", fresh, hyper, outcome.status, outcome.reason, outcome.seconds, score)
        except KeyboardInterrupt:
            interrupted = True
            mirror()
    if not any(each.score is not None for each in read(out / RECORDS).attempts):
        ended = "interrupted before a run was finished" if interrupted else "no run finished, all diverged"
        raise RuntimeError(f"{ended}; the same command goes on.")
    show(*write_report(out))
    if interrupted:
        raise RuntimeError("interrupted; the report has what was done until then, and the same command goes on.")


def opened(task: Task, out: Path, header: dict[str, Any], seed: int) -> dict[str, Contender]:
    """The methods with the studies of their settings, as far as they have come."""
    from quadric.bench.search.halving import Contender
    from quadric.bench.search.methods import CANDIDATES
    from quadric.bench.search.space import parse
    from quadric.bench.search.study import Study
    from quadric.report.directory import STUDY

    found = {}
    for name, space in header["spaces"].items():
        study = Study(str(out / STUDY), name, {"search": header["search"], "space": space}, parse(space), seed)
        study.release()
        study.choose("halton", 1)
        study.begin_with(CANDIDATES[name].first)
        found[name] = Contender(replace(task, method=name), study)
    return found
