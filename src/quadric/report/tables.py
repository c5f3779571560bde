"""The result table: rows of text, the same for the terminal and for the HTML report."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from math import isfinite
from statistics import median
from typing import TYPE_CHECKING

from quadric.bench.continuation import mixtures
from quadric.bench.records import Record, Run
from quadric.report.summary import Spread, Summary, entries, summarise
from quadric.report.verdict import verdict

Form = Callable[..., str]
"""A number and how many significant digits it deserves, to text."""

if TYPE_CHECKING:
    from rich.table import Table


@dataclass(frozen=True)
class Cell:
    """The median, and below it the spread or a remark."""

    main: str
    below: str = ""


@dataclass(frozen=True)
class ResultTable:
    """Title, column names, one row of cells for each optimiser, and what a reader has to know.

    `verdict` is a paragraph on who won; `parts` are tables that belong to this one.
    """

    title: str
    columns: list[str]
    rows: list[list[Cell]]
    notes: list[str]
    verdict: str = ""
    parts: list[ResultTable] = field(default_factory=list)


def result_table(record: Record) -> ResultTable:
    """The table of a record."""
    header = record.header
    target = header.problem["target"]
    summaries = summarise(record)
    columns: dict[str, Callable[[Summary], Cell]] = {
        "optimiser": lambda s: Cell(s.optimizer, f"{s.track}, {s.settings}" if s.track == "tuned" else s.track),
        "steps": lambda s: measured(s.steps, count),
        "seconds": lambda s: measured(s.seconds, plain),
        "train loss": lambda s: final(s, s.train_loss, plain),
        "train error": lambda s: final(s, s.train_error, percent),
        "test loss": lambda s: final(s, s.test_loss, plain),
        "test error": lambda s: final(s, s.test_error, percent),
        "steps to target": lambda s: to_target(s, s.steps_to_target, count),
        "seconds to target": lambda s: to_target(s, s.seconds_to_target, plain),
    }
    for name in ("train error", "test loss", "test error"):
        if all(columns[name](s).main == NOT_MEASURED for s in summaries):
            del columns[name]
    if "test error" in columns:
        del columns["test loss"]  # it has a figure; both would not fit a terminal
    return ResultTable(
        title=f"{header.title}: {length(header.epochs, header.seconds)}, {number(len(record.seeds), 'seed')}",
        columns=list(columns),
        rows=[[cell(s) for cell in columns.values()] for s in summaries],
        notes=[
            "Median over seeds, below it the lowest and the highest. Seconds are training only, without evaluation.",
            f"Target: {target['text']} ({target['origin']}).",
            *([header.problem["note"]] if header.problem.get("note") else []),
            *rankings(summaries),
            *mixtures(record.environments),
            *([f"The record is damaged: {record.damage}."] if record.damage else []),
        ],
        verdict=verdict(record),
        parts=[seed_table(record)],
    )


def seed_table(record: Record) -> ResultTable:
    """Steps and seconds to the target of every seed, and the passes through the model that they took."""
    rows = []
    for entry in entries(record):
        runs = record.runs_of(entry["name"])
        reached = [run.reached for run in runs if run.reached]
        medians = [
            f"{median(event.passes.get(kind, 0) for event in reached):,.0f}" for kind in KINDS_OF_PASS if reached
        ]
        rows.append([Cell(entry["name"]), *map(first_met, runs), Cell(" / ".join(medians) or NOT_MEASURED)])
    return ResultTable(
        title="Time to the target of every seed",
        columns=["optimiser", *(f"seed {seed}" for seed in record.seeds), "passes to target"],
        rows=rows,
        notes=[
            "Steps, below them seconds; inf: the run ended without reaching the target. Passes through the model: "
            f"{' / '.join(KINDS_OF_PASS)}, median over the seeds that reached it."
        ],
    )


KINDS_OF_PASS = ("forward", "backward", "curvature")


def first_met(run: Run) -> Cell:
    """When a run met the target."""
    if run.reached:
        return Cell(count(run.reached.step), f"{plain(run.reached.seconds)} s")
    return Cell("inf", f"after {count(run.end.steps)}, {plain(run.end.seconds)} s") if run.end else Cell(NOT_MEASURED)


NOT_MEASURED = "–"


def measured(value: Spread | None, form: Form) -> Cell:
    """Median and spread."""
    if value is None:
        return Cell(NOT_MEASURED)
    low, high = (form(end, 2) if isfinite(end) else "missed" for end in (value.low, value.high))
    return Cell(form(value.median, 3), "" if low == high else f"{low.removesuffix(' %')} – {high}")


def final(summary: Summary, value: Spread | None, form: Form) -> Cell:
    """A final value, with a word on the runs that it leaves out."""
    if summary.diverged == summary.runs:
        return Cell("diverged")
    cell = measured(value, form)
    remarks = [
        f"{some} of {summary.runs} {what}"
        for some, what in ((summary.diverged, "diverged"), (summary.unfinished, "unfinished"))
        if some and value is not None
    ]
    return Cell(cell.main, ", ".join([part for part in (cell.below, *remarks) if part]))


def to_target(summary: Summary, value: Spread | None, form: Form) -> Cell:
    """Steps or seconds to the target, or how many runs reached it if their median did not."""
    if value is None:
        return Cell(NOT_MEASURED)
    if isfinite(value.median):
        return measured(value, form)
    return Cell("missed", f"{summary.reached} of {summary.runs} reached it" if summary.reached else "")


def rankings(summaries: list[Summary]) -> list[str]:
    """Who is ahead and by how much: steps to the target, seconds to it, and the error on test examples."""
    measures: dict[str, tuple[Callable[[Summary], Spread | None], Form]] = {
        "Steps to target": (lambda s: s.steps_to_target, count),
        "Seconds to target": (lambda s: s.seconds_to_target, plain),
        "Final test error": (lambda s: s.test_error, percent),
    }
    lines = [ranking(name, summaries, value, form) for name, (value, form) in measures.items()]
    return [line for line in lines if line]


def ranking(name: str, summaries: list[Summary], value: Callable[[Summary], Spread | None], form: Form) -> str:
    """One line: every optimiser from best to worst, then those that have no value. Empty if nothing is to be ranked."""
    found = {s.optimizer: spread.median for s in summaries if (spread := value(s)) and isfinite(spread.median)}
    if not found or len(summaries) < 2:
        return ""
    best = min(found.values())
    parts = [
        f"{optimizer} {form(amount)}" + (f" ({amount / best:.3g}×)" if 0 < 1.005 * best < amount else "")
        for optimizer, amount in sorted(found.items(), key=lambda item: item[1])
    ]
    others = [s.optimizer for s in summaries if s.optimizer not in found]
    return f"{name}: {', '.join(parts)}" + (f"; not {', '.join(others)}." if others else ".")


def length(epochs: int | None, seconds: float | None) -> str:
    """How long a run is, in words."""
    parts = [] if epochs is None else [number(epochs, "epoch")]
    return " or ".join(parts if seconds is None else [*parts, f"{seconds:g} s"])


def number(amount: int, thing: str) -> str:
    """So many things."""
    return f"{amount:,} {thing}{'' if amount == 1 else 's'}"


def count(value: float, digits: int = 3) -> str:
    """A number of steps."""
    return f"{value:,.0f}"


def plain(value: float, digits: int = 3) -> str:
    """A number with that many significant digits."""
    if value == 0 or 1e-4 <= abs(value) < 1e4:
        return f"{value:,.0f}" if abs(value) >= 10**digits else f"{value:#.{digits}g}".rstrip(".")
    return f"{value:.{digits - 1}e}"


def percent(value: float, digits: int = 3) -> str:
    """A share in per cent."""
    return f"{100 * value:.2f} %"


def for_terminal(table: ResultTable, width: int) -> list[Table]:
    """The table as rich prints it; where it is wider than `width`, in parts that each begin with the first column."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    parts: list[Table] = []
    for columns in fitting(table, width):
        part = Table(box=box.SIMPLE_HEAD, padding=(0, 1))
        for i in columns:
            part.add_column(table.columns[i], justify="right" if i else "left", no_wrap=not i)
        for row in table.rows:
            cells = (row[i] for i in columns)
            part.add_row(*(Text.assemble(c.main, ("\n" + c.below if c.below else "", "dim")) for c in cells))
        parts.append(part)
    return parts


EDGES = 3
"""What rich adds to a column: a blank on either side, and one between columns."""


def fitting(table: ResultTable, width: int) -> list[list[int]]:
    """The positions of the columns, the first one in every part, cut so that no cell has to be broken."""
    widths = []
    for i, name in enumerate(table.columns):
        cells = [row[i] for row in table.rows]
        widths.append(EDGES + max(map(len, [*name.split(), *(text for c in cells for text in (c.main, c.below))])))
    parts: list[list[int]] = [[0]]
    room = width - 1 - widths[0]
    for i, wide in enumerate(widths[1:], start=1):
        if wide > room and len(parts[-1]) > 1:
            parts.append([0])
            room = width - 1 - widths[0]
        parts[-1].append(i)
        room -= wide
    return parts
