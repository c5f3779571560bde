"""What an inspection found, in a table with a row for each curvature and in sentences."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from quadric.analysis.classify import CriticalPoint
from quadric.analysis.sharpness import Sharpness
from quadric.bench.inspection.cost import Cost, size
from quadric.bench.inspection.point import Point
from quadric.bench.inspection.records import Inspection
from quadric.bench.inspection.subject import CURVATURES
from quadric.core.saved import Saved
from quadric.linalg.eigenpairs import Eigenpairs
from quadric.linalg.spectral_density import Mass, SpectralDensity
from quadric.report.tables import NOT_MEASURED, Cell, ResultTable, number, plain

Kind = TypeVar("Kind", bound=Saved)

CLASSIFY = "classify"
UNSEEN = 1e-4
"""Errors below this share of a number go unsaid in the table."""


def curvatures(inspection: Inspection) -> list[str]:
    """The curvatures that something was found of, in the order of the findings."""
    parts = ("top", "sharpness", "density")
    found = [f.curvature for f in inspection.findings.values() if f.part.rpartition("-")[2] in parts]
    return list(dict.fromkeys(found))


def result(inspection: Inspection, name: str, kind: type[Kind]) -> Kind | None:
    """The result of a part, if there is one."""
    found = inspection.results.get(name)
    return found if isinstance(found, kind) else None


def inspection_table(inspection: Inspection) -> ResultTable:
    """The table of what was found, and the sentences that go with it."""
    columns: dict[str, Callable[[str], Cell]] = {
        "curvature": lambda name: Cell(name),
        "largest eigenvalue": lambda name: _largest(inspection, name),
        "smallest": lambda name: _smallest(inspection, name),
        "trace": lambda name: _trace(inspection, name),
        "negative": lambda name: _share(inspection, name, "negative"),
        "near zero": lambda name: _share(inspection, name, "near_zero"),
    }
    names = curvatures(inspection)
    for title in list(columns)[1:]:
        if all(columns[title](name).main == NOT_MEASURED for name in names):
            del columns[title]
    return ResultTable(
        title=heading(inspection),
        columns=list(columns),
        rows=[[cell(name) for cell in columns.values()] for name in names],
        notes=notes(inspection),
    )


def heading(inspection: Inspection) -> str:
    """What was inspected, in a line."""
    facts, point = inspection.header.facts, inspection.point
    words = [number(facts["parameters"], "parameter")]
    if point is not None:
        words += [number(point.examples, "example"), f"loss {plain(point.loss)}"]
    return f"{facts['subject']}: {', '.join(words)}"


def notes(inspection: Inspection) -> list[str]:
    """What a reader has to know, the most important first."""
    said: list[str] = []
    point = inspection.point
    found = result(inspection, CLASSIFY, CriticalPoint)
    if found is not None:
        said += _of_point(found)
    elif point is not None:
        said.append(f"‖gradient‖ {plain(point.gradient_norm)}, ‖weights‖ {plain(point.weight_norm)}.")
    for name in curvatures(inspection):
        said += _of_spectrum(inspection, name) + _of_sharpness(inspection, name)
    if point is not None:
        said += point.remarks
    said += [f"{f.title}: {text}" for f in inspection.findings.values() for text in f.warnings]
    return said


def estimates(costs: list[Cost], point: Point) -> list[str]:
    """What the parts will take, a line each."""
    lines = [f"{cost.part.title}: about {_work(cost)}, {_time(cost.seconds)}" for cost in costs]
    seconds, most = sum(cost.seconds for cost in costs), max((cost.bytes for cost in costs), default=0)
    each = ", ".join(f"{name} {1e3 * s:.3g} ms" for name, s in point.product_seconds.items())
    memory = f"vectors up to {size(most)}"
    if point.product_bytes is None:
        memory += ", what a product takes is not known here"
    else:
        memory += f", a product about {size(point.product_bytes)}"
    return [*lines, f"in all {_time(seconds)} (one product: {each}); memory: {memory}"]


def _work(cost: Cost) -> str:
    work = [number(cost.part.products, "product")] if cost.part.products else []
    return " and ".join([*work, *([number(cost.part.evaluations, "evaluation")] if cost.part.evaluations else [])])


def _time(seconds: float) -> str:
    if seconds < 1:
        return "less than a second"
    for limit, unit, length in ((90, "s", 1), (5400, "min", 60), (172_800, "hours", 3600)):
        if seconds < limit:
            return f"about {seconds / length:.0f} {unit}"
    return f"about {seconds / 86_400:.0f} days"


def _largest(inspection: Inspection, name: str) -> Cell:
    top, sharp = (
        result(inspection, f"{name}-top", Eigenpairs),
        result(inspection, f"{name}-sharpness", Sharpness),
    )
    if top is not None:
        return _within(float(top.eigenvalues[0]), float(top.errors[0]))
    return _within(sharp.largest, sharp.error) if sharp is not None else Cell(NOT_MEASURED)


def _smallest(inspection: Inspection, name: str) -> Cell:
    found = result(inspection, CLASSIFY, CriticalPoint) if name == "hessian" else None
    if found is not None:
        return _within(float(found.eigenvalues[0]), float(found.errors[0]))
    density = result(inspection, f"{name}-density", SpectralDensity)
    if density is None:
        return Cell(NOT_MEASURED)
    if _semidefinite(inspection, name):
        return Cell("≥ 0")
    return Cell(plain(float(density.nodes.min())), "" if density.exact else "or below")


def _trace(inspection: Inspection, name: str) -> Cell:
    sharp = result(inspection, f"{name}-sharpness", Sharpness)
    if sharp is None:
        return Cell(NOT_MEASURED)
    return Cell(
        plain(sharp.trace.estimate), f"± {plain(sharp.trace.standard_error, 2)}" if not sharp.trace.exact else ""
    )


def _semidefinite(inspection: Inspection, name: str) -> bool:
    """Whether a curvature is known to have no negative eigenvalues."""
    convex = inspection.point is not None and inspection.point.convex
    return CURVATURES[name].positive_semidefinite or (name == "ggn" and convex)


def _share(inspection: Inspection, name: str, which: str) -> Cell:
    """A share of the eigenvalues; below it from what to what it may be, whatever the number of steps, and of which."""
    density = result(inspection, f"{name}-density", SpectralDensity)
    if density is None:
        return Cell(NOT_MEASURED)
    if which == "negative" and _semidefinite(inspection, name):
        return Cell("none")
    mass: Mass = getattr(density, which)
    low, high = _percent(mass.low), _percent(mass.high)
    where = f"below −{plain(density.threshold, 2)}" if which == "negative" else f"within {plain(density.threshold, 2)}"
    if low == high:
        return Cell(f"{low} %", where)
    share = _percent(mass.estimate)
    return Cell(f"{share} %" if share.startswith("<") else f"about {share} %", f"{low} – {high} %, {where}")


def _percent(share: float) -> str:
    """A share in whole per cent; what there is of it is not rounded to none."""
    return "< 1" if 0 < share < 0.01 else f"{100 * share:.0f}"


def _within(value: float, error: float) -> Cell:
    return Cell(plain(value), f"± {plain(error, 2)}" if error > UNSEEN * abs(value) else "")


def _of_point(found: CriticalPoint) -> list[str]:
    gradient = f"‖gradient‖ {plain(found.gradient_norm)}"
    if found.gradient_noise:
        gradient += f", {plain(found.gradient_norm / found.gradient_noise, 2)} times its sampling noise"
    low, high = found.index_range
    count = f"{low:,}" if low == high else f"{low:,} to {high:,}"
    return [
        f"Kind of point: {found.kind} ({gradient}; {count} of {found.dimension:,} Hessian eigenvalues negative).",
    ]


def _of_spectrum(inspection: Inspection, name: str) -> list[str]:
    top = result(inspection, f"{name}-top", Eigenpairs)
    if top is None or len(top.eigenvalues) < 2:
        return []
    values = top.eigenvalues
    said = f"{name}: eigenvalues 1 to {len(values)} fall from {plain(float(values[0]))} to {plain(float(values[-1]))}"
    sharp = result(inspection, f"{name}-sharpness", Sharpness)
    if sharp is not None and sharp.trace.estimate > 0 and _semidefinite(inspection, name):
        said += f" and add up to {100 * float(values.sum()) / sharp.trace.estimate:.0f} % of the trace"
    return [said + "."]


def _of_sharpness(inspection: Inspection, name: str) -> list[str]:
    sharp = result(inspection, f"{name}-sharpness", Sharpness)
    if sharp is None or sharp.ratio is None or sharp.threshold is None:
        return []
    said = [f"{key} {value:g}" for key, value in inspection.findings[f"{name}-sharpness"].settings.items() if value]
    verdict = "diverges" if sharp.ratio > 1 else "is stable"
    if not sharp.converged or abs(sharp.largest - sharp.threshold) <= sharp.error:
        verdict = "is within the error of the edge of stability"
    return [
        f"{name}: gradient descent with {', '.join(said)} {verdict} along the sharpest direction of the quadratic "
        f"model: the largest eigenvalue is "
        f"{plain(sharp.ratio)} times the threshold {plain(sharp.threshold)}."
    ]


def facts_of(inspection: Inspection) -> dict[str, Any]:
    """What identifies the subject and what was counted, for a reader."""
    point = inspection.point
    counted = {} if point is None else {"examples": f"{point.examples:,}, batches of data: {point.batches:,}"}
    said = {name: value for name, value in inspection.header.facts.items() if value is not None}
    return {**said, **counted}
