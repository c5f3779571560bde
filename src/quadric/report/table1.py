"""Table 1 of the CurveBall paper from its records, beside the published figures."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from math import isfinite

from quadric.bench.paper.columns import COLUMNS, Column
from quadric.bench.paper.contenders import CONTENDERS, Contender
from quadric.bench.paper.published import TABLE1
from quadric.bench.paper.table1 import Block, Count, count
from quadric.report.tables import NOT_MEASURED, Cell, ResultTable

NOTES = (
    "Steps to solve, mean ± standard deviation over the solved runs, as in the paper, and how many runs were solved. "
    "A run is solved at the first step, counted from 1, whose loss before it moves is below 1e-4. Runs end after 5,000 "
    "steps, on Rahimi–Recht after 1,000.",
    "“Published” figures are as recalled, approximate. They leave unsolved runs out without a count: a mean near "
    "the last step allowed, as SGD's and Adam's on U[0,3], can be that of a few lucky runs.",
    "Every method sees the same starts: (−0.25, −0.25) + (U[0,1] − 0.5)/2, the same number added to both; weights, "
    "examples and A of Rahimi–Recht drawn anew for each run. CurveBall, SGD, Adam and Newton see the same noise, "
    "drawn at each step; in BFGS and Levenberg–Marquardt every evaluation draws it anew, those of a line search or a "
    "refused step included, and only steps taken count.",
    "Noise: the authors' program has ε² in the loss (ε multiplies the residual), the paper's formula ε. The published "
    "columns stand beside ε²; SGD on U[0,3] shows that the two differ.",
    "SGD and Adam: of the authors' grid the member with the lowest final loss in a single run, which with "
    "noise is a matter of luck. Chosen by one thing, judged by another; so the tuned rows have learning rates searched "
    "for the steps to solve (learning_rates.json).",
    "LM is Levenberg–Marquardt; the authors' program hands MATLAB's lsqnonlin twice the Jacobian J, and both are here. "
    "BFGS is SciPy's in the place of MATLAB's fminunc, begun anew where its line search fails. Everything is float64; "
    "the authors' first-order and CurveBall runs were single precision.",
    "In two dimensions CurveBall's subspace is the whole plane: the Rosenbrock columns show damped Gauss–Newton with "
    "its step halved (the authors' settings), not CurveBall's approximation. Only Rahimi–Recht does.",
)


def table(blocks: Sequence[Block]) -> ResultTable:
    """A row for each method that has runs, and below it the published one; no rows where there are no runs."""
    counts = {(c.name, column.problem): count(blocks, c.name, column.problem) for c in CONTENDERS for column in COLUMNS}
    rows = []
    for contender in CONTENDERS:
        own = [counts[contender.name, column.problem] for column in COLUMNS]
        if any(found.runs for found in own):
            rows.append([Cell(contender.title), *map(cell, own)])
            if contender.published:
                rows.append([Cell("published", "approximate"), *(published(contender, column) for column in COLUMNS)])
    runs = [found.runs for found in counts.values()]
    return ResultTable(
        f"Table 1 of the CurveBall paper, {text(min(runs), max(runs))} runs",
        ["steps to solve", *(column.title for column in COLUMNS)],
        rows,
        [*NOTES, *settings(), *unsolved(counts)],
    )


def text(low: int, high: int) -> str:
    """How many runs there are of each method on each problem."""
    return str(low) if low == high else f"{low} to {high}"


def cell(found: Count) -> Cell:
    """Mean ± deviation, and how many were solved."""
    if not found.runs:
        return Cell(NOT_MEASURED)
    main = number(found.mean) if found.solved else "never"
    return Cell(main + (f" ± {number(found.std)}" if isfinite(found.std) else ""), f"{found.solved} of {found.runs}")


def published(contender: Contender, column: Column) -> Cell:
    """What the paper has there."""
    figures = TABLE1[contender.published].get(column.published)
    return Cell(NOT_MEASURED if figures is None else f"{figures[0]:,g} ± {figures[1]:g}")


def number(value: float) -> str:
    """A number of steps: one decimal below a hundred."""
    return f"{value:.1f}" if value < 100 else f"{value:,.0f}"


def settings() -> list[str]:
    """What each method ran with, problems with equal settings together."""
    lines = []
    for contender in CONTENDERS:
        by_text: dict[str, list[str]] = {}
        for column in COLUMNS:
            by_text.setdefault(contender.settings(column), []).append(column.title)
        parts = [said if len(by_text) == 1 else f"{', '.join(titles)}: {said}" for said, titles in by_text.items()]
        lines.append(f"{contender.title}: {'; '.join(parts)}.")
    return lines


def unsolved(counts: dict[tuple[str, str], Count]) -> list[str]:
    """How the unsolved runs ended."""
    titles = {c.name: c.title for c in CONTENDERS} | {column.problem: column.title for column in COLUMNS}
    return [
        f"Unsolved, {titles[method]} on {titles[problem]}: "
        + ", ".join(f"{times} × {what}" for what, times in Counter(map(kind, found.reasons)).most_common())
        + "."
        for (method, problem), found in counts.items()
        if found.reasons
    ]


def kind(reason: str) -> str:
    """How a run ended, without its particulars."""
    status = reason.split(":")[0]
    return "out of steps" if status == "finished" else status
