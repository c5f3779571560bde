"""`quadric compare`: train the same problem with several optimisers, record everything, and report."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from quadric.cli.options import WORKERS, Scale, check_seconds, check_workers, chosen_device, names_in

if TYPE_CHECKING:
    import torch

    from quadric.bench.records import Event, Header, Record
    from quadric.bench.runner import Entry, Round
    from quadric.problems import Problem

DEFAULT = "curveball,sgd,momentum,adam"


def compare(
    problem: Annotated[str, typer.Option(help="One problem or several, with commas; `quadric list` shows them.")],
    out: Annotated[Path, typer.Option(help="Directory for records, figures and report.")],
    optimizers: Annotated[
        str,
        typer.Option(
            help="Names with commas; `quadric list` shows them. NAME@tuned: with a searched setting. "
            "NAME:lr=0.1: with settings of yours.",
        ),
    ] = DEFAULT,
    scale: Annotated[
        Scale, typer.Option(help="Of problems with two sizes: what two cores can do, or all data and epochs.")
    ] = Scale.small,
    epochs: Annotated[int | None, typer.Option(min=1, help="Length of a run; the problem's own if left out.")] = None,
    seconds: Annotated[
        float | None,
        typer.Option(help="Seconds of training of a run, in the place of epochs unless --epochs is given, too."),
    ] = None,
    seeds: Annotated[int, typer.Option(min=1, help="Number of runs per optimiser, with seeds 0, 1, 2, …")] = 3,
    first_seed: Annotated[int, typer.Option(min=0, help="The first of the seeds.")] = 0,
    searches: Annotated[
        Path | None,
        typer.Option(help="Take settings from `quadric tune`: DIRECTORY/NAME is its --out for the optimiser NAME."),
    ] = None,
    target_from: Annotated[
        Path | None,
        typer.Option(help="Take the target from a comparison of one method: the median of what its runs ended with."),
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace an earlier run in the same directory.")
    ] = False,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with what is in the directory; more --seeds add runs.")
    ] = False,
    mix: Annotated[
        bool, typer.Option("--mix", help="With --resume: even if code, data or machine differ; the report says so.")
    ] = False,
    data_dir: Annotated[
        Path | None, typer.Option(help="Directory with data sets; QUADRIC_DATA may name one, too.")
    ] = None,
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:1, …")] = "cpu",
    threads: Annotated[int | None, typer.Option(min=1, help="CPU threads; the problem's own if left out.")] = None,
    workers: Annotated[int, typer.Option(min=1, help=WORKERS)] = 1,
) -> None:
    """Train a problem with several optimisers, from the same starts on the same batches, and report who got where when.

    Learning rates of first-order optimisers come from a search that is part of the package; the others run as they are
    (NAME@tuned gives them a search of the same size). Records are written while it runs: after Ctrl-C the report has
    all that was done until then, and --resume goes on. Several problems get a directory each, and performance profiles.

    [bold]Examples[/bold]

    quadric compare --problem digits-mlp --optimizers curveball,sgd,adam --epochs 20 --seeds 3 --out runs/digits

    quadric compare --problem cifar10-cnn-bn --optimizers curveball,momentum:lr=0.1 --scale full --device cuda
    --out runs/cifar

    quadric compare --problem mnist-mlp --data-dir ~/data --out runs/mnist

    quadric compare --problem rosenbrock-u1 --optimizers curveball,momentum --seeds 10 --out runs/noise --overwrite
    """
    import torch

    from quadric.cli.output import announce
    from quadric.report.directory import check_free
    from quadric.report.profile import write_profile

    if overwrite and resume:
        raise typer.BadParameter("--overwrite and --resume exclude each other.")
    check_seconds(seconds)
    tasks = [chosen(name, scale, optimizers, device, searches, target_from) for name in names(problem, "--problem")]
    place = tasks[0][2]
    check_workers(workers, place, threads)
    comparisons = [
        Comparison(
            replace(task, evaluate_every=1) if seconds else task,
            entries,
            out if len(tasks) == 1 else out / task.name,
            epochs or (None if seconds else task.epochs),
            seconds,
            range(first_seed, first_seed + seeds),
            data_dir,
        )
        for task, entries, _ in tasks
    ]
    for each in comparisons:
        check_free(each.out, overwrite or resume)
    records = []
    for each in comparisons:
        torch.set_num_threads(1 if workers > 1 else threads or each.problem.threads)
        records.append(each.carry_out(place, workers, overwrite, resume, mix))
    if len(records) > 1:
        announce(write_profile(out, records))


@dataclass(frozen=True)
class Comparison:
    """One problem with its optimisers, and where the results go."""

    problem: Problem
    entries: list[Entry]
    out: Path
    epochs: int | None
    seconds: float | None
    seeds: range
    data_dir: Path | None

    def carry_out(self, place: torch.device, workers: int, overwrite: bool, resume: bool, mix: bool) -> Record:
        """Run what is not recorded yet, print the table, and return the record.

        Raises RuntimeError after Ctrl-C, when the report of what was done has been printed.
        """
        from quadric.cli.output import show
        from quadric.report.directory import write_report

        interrupted = self.train(place, workers, overwrite, resume, mix)
        record, table, report = write_report(self.out)
        show(table, report)
        if interrupted:
            raise RuntimeError("interrupted; the report has what was done until then, and --resume goes on.")
        return record

    def check(self, place: torch.device) -> None:
        """Raise what keeps it from running before it does: data that are missing, a directory of something else."""
        from quadric.report.directory import check_free

        check_free(self.out, overwrite=True)
        self.problem.open(self.data_dir, place)

    def train(self, place: torch.device, workers: int, overwrite: bool, resume: bool, mix: bool) -> bool:
        """Run what is not recorded yet; returns whether Ctrl-C ended it before."""
        from quadric.bench.continuation import check_alike
        from quadric.bench.environment import describe
        from quadric.bench.fingerprint import fingerprint
        from quadric.bench.records import Header, Recorder, Resumed
        from quadric.bench.runner import rounds, run_round, warm_up
        from quadric.bench.workers import Work, share
        from quadric.cli.output import console
        from quadric.report.directory import RECORDS, prepare

        draw = self.problem.open(self.data_dir, place)
        environment = {**describe(place), "workers": str(workers), "data": fingerprint(draw(0))}
        entries = [asdict(entry) for entry in self.entries]
        seeds = list(self.seeds)
        about = described(self.problem, draw(0).note)
        header = Header(about, entries, self.epochs, seeds, environment, seconds=self.seconds)
        record = found(self.out, header) if resume else None
        todo = rounds(self.entries, seeds, record.over if record else ())
        with console().status("warming up"):
            took = warm_up(self.problem, self.entries if todo else (), draw, place)
        task = self.problem
        work = Work(
            task.label, task.target, task.evaluate_every, self.entries, self.epochs, self.data_dir, self.seconds
        )
        here = partial(run_round, self.problem, draw=draw, epochs=self.epochs, device=place, seconds=self.seconds)
        events = share(work, todo, workers) if workers > 1 else (e for each in todo for e in here(each))
        if record is None:
            recorder = Recorder.begin(prepare(self.out, overwrite, keep=(RECORDS,)), replace(header, warm_up=took))
        elif todo:
            if not mix:
                check_alike(self.out, record.environments, environment)
            recorder = Recorder.resume(self.out / RECORDS, Resumed(seeds, environment))
        interrupted = False
        with live(todo, self.epochs, self.seconds) as advance:
            try:
                for event in events:
                    recorder.write(event)
                    advance(event)
            except KeyboardInterrupt:
                interrupted = True
            finally:
                events.close()
        return interrupted


def found(out: Path, header: Header) -> Record | None:
    """What is recorded of the same comparison. Raises ValueError where there is another one."""
    from quadric.bench.continuation import check_same
    from quadric.bench.records import read
    from quadric.report.directory import RECORDS

    if not (out / RECORDS).exists():
        return None
    record = read(out / RECORDS)
    check_same(out, record, header)
    return record


def names(text: str, hint: str) -> list[str]:
    """The names between the commas. Raises typer.BadParameter where there is none, or one is given twice."""
    found = names_in(text)
    if not found or len(set(found)) < len(found):
        raise typer.BadParameter(f"Expected different names, got {text!r}.", param_hint=hint)
    return found


def chosen(
    problem: str,
    scale: str,
    optimizers: str,
    device: str,
    searches: Path | None = None,
    target_record: Path | None = None,
) -> tuple[Problem, list[Entry], torch.device]:
    """What the names on the command line stand for.

    Raises:
        typer.BadParameter: a name that is not known, or given twice, or a device that is not there.
        ValueError: a record that a target is to come from and can't.
    """
    from quadric import optim, problems
    from quadric.bench.rates import entry, entry_from, target, target_from

    wanted = names(optimizers, "--optimizers")
    try:
        task = problems.get(problem).at(scale)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--problem") from error
    try:
        for name in wanted:
            optim.summary(re.split("[@:]", name)[0])
        entries = [entry_from(task, name, searches) if searches else entry(task, name) for name in wanted]
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--optimizers") from error
    goal = target(task) if target_record is None else target_from(task, target_record)
    return replace(task, target=goal), entries, chosen_device(device)


def described(problem: Problem, note: str) -> dict[str, Any]:
    """What the record says of the problem; `note` is what its data have to say."""
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
        **({"scale": problem.scale, "size": problem.size} if problem.scale else {}),
        **({"note": note} if note else {}),
    }


@contextmanager
def live(rounds: list[Round], epochs: int | None, seconds: float | None) -> Iterator[Callable[[Event], None]]:
    """A bar for every optimiser with something to do; without a terminal, a line for every run that ends."""
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    from quadric.bench.records import End, Evaluation
    from quadric.cli.output import console
    from quadric.report.tables import number

    columns = TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[state]}"), TimeElapsedColumn()
    with Progress(*columns, console=console(), transient=True) as progress:
        done: dict[str, dict[int, float]] = {}
        for each in rounds:
            for entry in each.entries:
                done.setdefault(entry.name, {})[each.seed] = 0.0
        tasks = {name: progress.add_task(name, total=len(seeds), state="") for name, seeds in done.items()}

        def advance(event: Event) -> None:
            if isinstance(event, Evaluation):
                share = event.epoch / (epochs or math.inf), event.seconds / (seconds or math.inf)
                done[event.optimizer][event.seed] = min(1.0, max(share))
                state = f"seed {event.seed}  step {event.step:,}  train loss {shown(event.train_loss, '.4g')}"
                if event.test_error is not None:
                    state += f"  test error {event.test_error:.1%}"
                progress.update(tasks[event.optimizer], state=state)
            elif isinstance(event, End):
                done[event.optimizer][event.seed] = 1.0
                if not progress.console.is_terminal:
                    text = f"{event.optimizer}, seed {event.seed}: {event.status} after {number(event.steps, 'step')}"
                    progress.console.print(f"{text} and {event.seconds:.2f} s ({event.reason})", highlight=False)
            progress.update(tasks[event.optimizer], completed=sum(done[event.optimizer].values()))

        yield advance


def shown(value: float | None, form: str) -> str:
    """A number that may be missing."""
    return "–" if value is None else format(value, form)
