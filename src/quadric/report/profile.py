"""Performance profiles over several problems (Dolan and Moré 2002): how often a method is within a factor of the best.

Each problem with each seed is one case, since all methods of a case share start and data. ρ(τ) is the share of cases
that a method solved in at most τ times what the best method of that case took; misses are infinite, so ρ(1) is the
share that it won and the limit of ρ the share that it solved.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from math import inf, isfinite
from pathlib import Path

import matplotlib
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from quadric.bench.continuation import differences
from quadric.bench.records import Record
from quadric.core.records import write_atomically
from quadric.report.figures import COLOURS, LINES, STYLE, below
from quadric.report.verdict import MEASURES, Measure

PICTURE = "profile.png"
TABLE = "profile.md"


@dataclass(frozen=True)
class Profile:
    """Each method's ratios to the best, one for each case, infinite for misses."""

    measure: Measure
    ratios: dict[str, list[float]]

    def share(self, method: str, within: float) -> float:
        """ρ(τ)."""
        found = self.ratios[method]
        return sum(ratio <= within for ratio in found) / len(found)


def profile(records: Sequence[Record], measure: Measure) -> Profile:
    """The profile of the methods that all records have, over the cases that every one of them finished.

    A case that nobody solved is infinitely far for all. Raises ValueError where there is no such method or case.
    """
    methods = [
        entry["name"]
        for entry in records[0].header.optimizers
        if all(any(other["name"] == entry["name"] for other in each.header.optimizers) for each in records)
    ]
    ratios: dict[str, list[float]] = {method: [] for method in methods}
    for record in records:
        for seed in record.seeds:
            runs = {run.optimizer: run for run in record.runs if run.seed == seed and run.optimizer in ratios}
            if not all(run.end or run.reached for run in runs.values()):
                continue
            times = {
                method: inf if run.reached is None else run.reached.step if measure == "steps" else run.reached.seconds
                for method, run in runs.items()
            }
            best = min(times.values(), default=inf)
            for method, time in times.items():
                ratios[method].append(inf if not isfinite(time) else 1.0 if time == best else time / max(best, 1e-12))
    if not any(ratios.values()):
        raise ValueError("There is no performance profile: no method finished the same seed on every problem.")
    return Profile(measure, ratios)


def write_profile(directory: Path, records: Sequence[Record]) -> Path:
    """Draw the profiles in steps and seconds, write their numbers beside, and return the picture's path."""
    profiles = [profile(records, measure) for measure in MEASURES]
    write_atomically(directory / TABLE, table(records, profiles).encode())
    write_atomically(directory / PICTURE, drawn(profiles))
    return directory / PICTURE


def table(records: Sequence[Record], profiles: Sequence[Profile]) -> str:
    """The profiles' ends and middle as Markdown, with what they are over."""
    lines = ["# Performance profiles", ""]
    over = ", ".join(
        f"{record.header.problem['name']} ({record.header.problem['target']['text']})" for record in records
    )
    cases = len(next(iter(profiles[0].ratios.values())))
    lines += [f"Share of {cases} cases (problem × seed) over {over}. Misses are infinite.", ""]
    for each in profiles:
        lines += [f"| {each.measure} | won (τ = 1) | within 2× | within 4× | solved |", "|---|---|---|---|---|"]
        ordered = sorted(each.ratios, key=lambda name: [-each.share(name, tau) for tau in (1, 2, 4)])
        for name in ordered:
            shares = [each.share(name, 1), each.share(name, 2), each.share(name, 4), each.share(name, 1e300)]
            lines.append(f"| {name} | {' | '.join(f'{100 * share:.0f} %' for share in shares)} |")
        lines.append("")
    first = records[0].header.environment
    for record in records[1:]:
        differs = differences({**first, "data": ""}, {**record.header.environment, "data": ""})
        if differs:
            lines += [f"Mixed: for {record.header.problem['name']}, {differs}.", ""]
    return "\n".join(lines)


def drawn(profiles: Sequence[Profile]) -> bytes:
    """The profiles side by side as a PNG."""
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(10, 4.4), layout="constrained")
        for axes, each in zip(figure.subplots(1, len(profiles), sharey=True), profiles, strict=True):
            finite = [ratio for ratios in each.ratios.values() for ratio in ratios if isfinite(ratio)]
            end = max(2.0, 1.15 * max(finite, default=1))
            for position, (method, ratios) in enumerate(each.ratios.items()):
                at = sorted({1.0, *(ratio for ratio in ratios if isfinite(ratio)), end})
                axes.plot(
                    at,
                    [each.share(method, tau) for tau in at],
                    drawstyle="steps-post",
                    label=method,
                    color=COLOURS[position % len(COLOURS)],
                    linestyle=LINES[position % len(LINES)],
                    linewidth=2,
                )
            axes.set_xscale("log")
            axes.set_xlim(1, end)
            axes.set_ylim(-0.02, 1.02)
            axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
            axes.xaxis.set_minor_formatter(NullFormatter())
            axes.set_xlabel(f"factor τ of the best method's {each.measure}")
            axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:.0f} %"))
        figure.axes[0].set_ylabel("cases solved within τ")
        handles, labels = figure.axes[0].get_legend_handles_labels()
        figure.legend(handles, labels, **below(labels))
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", dpi=160, metadata={"Software": "quadric"})
    return buffer.getvalue()
