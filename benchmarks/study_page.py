"""docs/study.md: the study's tables, verdicts and figures from its records.

make study                                  # run the study, then this
python benchmarks/study_page.py runs/study  # take over the records, then draw
make study-page                             # draw the page and its figures anew from results/study
"""

from __future__ import annotations

import argparse
import io
import math
import shutil
from pathlib import Path
from statistics import median

import matplotlib
from matplotlib.figure import Figure

from quadric.bench import records
from quadric.bench.continuation import mixtures
from quadric.bench.rates import FIRST_ORDER
from quadric.bench.records import Record
from quadric.bench.search import records as searches
from quadric.bench.search.records import Found
from quadric.core.records import FILE_NAME
from quadric.report import profile
from quadric.report.figures import PICTURES, STYLE, draw
from quadric.report.markdown import markdown
from quadric.report.summary import entries, settings, summarise
from quadric.report.tables import Cell, ResultTable, length, plain, result_table
from quadric.report.tuning import draw_values, searched
from quadric.report.verdict import MEASURES, Measure, duel, ratio, times
from records import RESULTS

KEPT = RESULTS / "study"
DOCS = Path(__file__).parents[1] / "docs"
PICTURES_IN = "study"
COLUMNS = 4
SEARCHES = ("tune", "alone")
"""Where a problem's searches are: those of the tuned methods, and λ and α by themselves."""
NEAR = 1.1
"""Up to so many times the lowest loss, a setting is said to do about as well."""


def main() -> None:
    """Take over records if a directory is named, and draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path, nargs="?", help="what `study.py --out` named")
    parser.add_argument("--records", type=Path, default=KEPT, help="folder that the records are kept in")
    parser.add_argument("--docs", type=Path, default=DOCS, help="folder for the page and its figures")
    options = parser.parse_args()
    if options.runs is not None:
        take_over(options.runs, options.records)
    write_page(options.records, options.docs)


def take_over(runs: Path, kept: Path) -> None:
    """Copy the records of every problem whose comparison has begun, in the place of those kept of it."""
    for folder in sorted(each.parent.parent for each in runs.glob(f"*/compare/{FILE_NAME}")):
        shutil.rmtree(kept / folder.name, ignore_errors=True)
        searches = [path.parent for part in SEARCHES for path in (folder / part).glob(f"*/{FILE_NAME}")]
        for path in (*folder.glob("target"), folder / "compare", *searches):
            target = kept / path.relative_to(runs) / FILE_NAME
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path / FILE_NAME, target)


def write_page(kept: Path, docs: Path) -> None:
    """Draw everything. Raises SystemExit where there are no records."""
    every = {path.parents[1].name: records.read(path) for path in sorted(kept.glob(f"*/compare/{FILE_NAME}"))}
    if not every:
        raise SystemExit(f"There are no records in {kept}: `make study` makes them.")
    comparisons = {name: record for name, record in every.items() if (kept / name / "target").exists()}
    unsearched = {name: record for name, record in every.items() if name not in comparisons}
    pictures = docs / PICTURES_IN
    shutil.rmtree(pictures, ignore_errors=True)
    pictures.mkdir(parents=True)
    parts = [top(list(comparisons.values()))]
    for name, record in comparisons.items():
        tuned, alone = ([searches.read(p) for p in sorted((kept / name / s).glob(f"*/{FILE_NAME}"))] for s in SEARCHES)
        (pictures / f"{name}.png").write_bytes(draw(record, PICTURES["train_loss"]) or b"")
        (pictures / f"{name}-sensitivity.png").write_bytes(sensitivities(name, tuned))
        parts.append(section(name, record, tuned))
        if any(each.finished for each in alone):
            (pictures / f"{name}-alone.png").write_bytes(sensitivities(name, alone))
            parts.append(by_itself(name, alone))
    if unsearched:
        parts.append(without_searches(unsearched))
    if len(comparisons) > 1:
        together = list(comparisons.values())
        profiles = [profile.profile(together, measure) for measure in MEASURES]
        (pictures / "profile.png").write_bytes(profile.drawn(profiles))
        table = profile.table(together, profiles).removeprefix("# ")
        parts.append(f"## {table}\n![Performance profiles]({PICTURES_IN}/profile.png)\n")
    environment = next(iter(every.values())).header.environment
    where = " · ".join(f"{name} {environment[name]}" for name in ("date", "processor", "quadric", "torch", "workers"))
    parts.append(
        f"*{where}. The records are `benchmarks/results/study/`; `make study-page` writes this page from them.*\n"
    )
    (docs / "study.md").write_text("\n".join(parts), encoding="utf-8")


def top(comparisons: list[Record]) -> str:
    """What was done, and who won where."""
    return f"""# A study: second-order methods beside tuned first-order ones

`make study` repeats it; [protocol.md](protocol.md) has the rules and their reasons. Two tracks: *tuned* methods had as
many trials each, in spaces of two numbers of the same size, damping included, judged by the train loss at the end of
the same seconds; *self-tuning* ones run as they are on every problem. The target of a problem is the median of what its
best tuned first-order method reaches in three quarters of the time, with seeds of its own. Misses are infinite;
seconds are of training on one thread, without evaluations. Wins and losses are both here, and what the seeds leave
open.

{markdown(outcome(comparisons, "seconds"))}
{markdown(outcome(comparisons, "steps"))}"""


def outcome(comparisons: list[Record], measure: Measure) -> ResultTable:
    """For every problem and second-order method, the duel with the fastest tuned first-order one."""
    names = list(dict.fromkeys(e["name"] for record in comparisons for e in entries(record) if not first_order(e)))
    rows = []
    for record in comparisons:
        found = {entry["name"]: times(record.runs_of(entry["name"]), measure) for entry in entries(record)}
        rivals = [entry["name"] for entry in entries(record) if first_order(entry)]
        best = min(rivals, key=lambda name: median(found[name]) if found[name] else math.inf)
        cells = [judged(found[name], best, found[best]) if name in found else Cell("–") for name in names]
        rows.append([Cell(record.header.problem["name"]), Cell(best), *cells])
    note = (
        "A factor is of medians: above 1 faster than the first-order method. An exact rank-sum test over seeds decides."
    )
    return ResultTable("", [f"{measure} to the target", "best tuned first-order", *names], rows, [note])


def first_order(entry: dict[str, object]) -> bool:
    """Whether an entry is a first-order method."""
    return str(entry["name"]).partition("@")[0] in FIRST_ORDER


def judged(own: list[float], rival: str, other: list[float]) -> Cell:
    """Won, lost or undecided, and the factor."""
    if not own or not other:
        return Cell("–")
    found = duel(own, rival, other)
    if math.inf == median(own) == median(other):
        return Cell("undecided", "both missed")
    what = "won" if found.won else "lost" if found.lost else "undecided"
    return Cell(what, ratio(found.factor) if found.factor else "missed")


def section(name: str, record: Record, found: list[Found]) -> str:
    """One problem: the verdict, the tables, the figures and the searches."""
    table, problem = result_table(record), record.header.problem
    verdict = "\n".join(f"- {line}" for line in table.verdict.splitlines())
    facts = "; ".join(f"{key}: {value}" for key, value in problem["facts"].items())
    seeds, run = table.parts[0], length(record.header.epochs, record.header.seconds)
    environments = [record.environments, *(each.environments for each in found)]
    sentences = dict.fromkeys(sentence for each in environments for sentence in mixtures(each))
    mixed = "".join(f"\n{sentence}\n" for sentence in sentences)
    return f"""## {name}

{problem["summary"]}. {facts}. Batches of {problem["batch_size"]}; runs of {run}.
{mixed}
{verdict}

{markdown(table)}
{seeds.title}:

{markdown(seeds)}
![Train loss against steps and seconds]({PICTURES_IN}/{name}.png)

What the searches found, and how much the result depends on it:

{markdown(searches_table(found))}
![Train loss against every searched number]({PICTURES_IN}/{name}-sensitivity.png)
"""


def without_searches(comparisons: dict[str, Record]) -> str:
    """A row for each problem that a few methods ran on as they are."""
    rows = []
    for name, record in comparisons.items():
        cells = [Cell(record.header.problem["target"]["text"]), Cell(length(None, record.header.seconds))]
        for each in summarise(record):
            reached = f"{each.reached} of {each.runs} reached it"
            time = each.seconds_to_target
            best = "–" if each.train_loss is None else plain(each.train_loss.median)
            cells.append(
                Cell(plain(time.median) if time and math.isfinite(time.median) else "missed", f"{best}; {reached}")
            )
        rows.append([Cell(name), *cells])
    methods = [each.optimizer for each in summarise(next(iter(comparisons.values())))]
    seeds = len(next(iter(comparisons.values())).seeds)
    return f"""## Without searches

CurveBall and K-FAC as they are, first-order methods with the package's learning rates, {seeds} seeds: median seconds to
the target, and below it the median train loss at the end.

{markdown(ResultTable("", ["seconds to the target", "target", "run", *methods], rows, []))}"""


def searches_table(found: list[Found]) -> ResultTable:
    """The space, the trials and the best setting of every search."""
    rows = [
        [
            Cell(each.header["search"]["optimiser"]),
            Cell(each.header["search"]["space"].replace("|", " or ")),
            Cell(str(len(each.trials)), lost(each)),
            Cell(settings(each.finished[0].hyper) if each.finished else "–"),
            Cell(plain(each.finished[0].value) if each.finished else "diverged"),
        ]
        for each in found
    ]
    return ResultTable("", ["method", "space", "trials", "best", "its train loss"], rows, [])


def by_itself(name: str, found: list[Found]) -> str:
    """λ and α over their grids."""
    rows = []
    for each in found:
        (dimension,) = searched(each)
        if not each.finished:
            continue
        best = each.finished[0]
        near = [trial.hyper[dimension.name] for trial in each.finished if trial.value <= NEAR * best.value]
        rows.append(
            [
                Cell(each.header["search"]["optimiser"]),
                Cell(each.header["search"]["space"].replace("|", " or ")),
                Cell(plain(best.hyper[dimension.name]), plain(best.value)),
                Cell(f"{plain(min(near))} to {plain(max(near))}"),
                Cell(plain(each.finished[-1].value), lost(each)),
            ]
        )
    columns = ["method", "grid", "best, its train loss", f"within {NEAR - 1:.0%} of it", "highest train loss"]
    return f"""How much λ (damping) and α (correction) matter by themselves on {name}, one seed:

{markdown(ResultTable("", columns, rows, []))}
![Train loss against λ and α]({PICTURES_IN}/{name}-alone.png)
"""


def lost(found: Found) -> str:
    """How many trials did not finish."""
    counts = {status: sum(trial.status == status for trial in found.trials) for status in ("pruned", "diverged")}
    return ", ".join(f"{count} {status}" for status, count in counts.items() if count)


def sensitivities(name: str, found: list[Found]) -> bytes:
    """The train loss against every searched number, a row of axes for each two methods."""
    panels = [(each, dimension) for each in found if each.finished for dimension in searched(each)]
    with matplotlib.rc_context(STYLE):
        rows = -(-len(panels) // COLUMNS)
        figure = Figure(figsize=(3.2 * COLUMNS, 3.0 * rows + 0.6), layout="constrained")
        axes = list(figure.subplots(rows, COLUMNS, squeeze=False).flat)
        for place, (each, dimension) in zip(axes, panels, strict=False):
            draw_values(place, each, dimension)
            place.set_title(each.header["search"]["optimiser"])
            place.set_ylabel("train loss")
        for place in axes[len(panels) :]:
            place.set_axis_off()
        named = [zip(*place.get_legend_handles_labels(), strict=True) for place in axes[: len(panels)]]
        handles = {label: handle for pairs in named for handle, label in pairs}
        figure.suptitle(name, x=0.01, ha="left", fontweight="bold")
        figure.legend(handles.values(), handles, loc="outside lower center", ncols=4)
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", dpi=100, metadata={"Software": "quadric"})
    return buffer.getvalue()


if __name__ == "__main__":
    main()
