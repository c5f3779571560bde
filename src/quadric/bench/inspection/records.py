"""What an inspection leaves behind: JSON lines beside the results' own files, each written when its part is finished.

The first line is the header, then comes the `Point`, then a `Finding` for each part. A part measured again with other
settings has another line, and the last one counts. A line is written after its file.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from quadric.bench.inspection.parts import Part
from quadric.bench.inspection.point import Point
from quadric.core.records import Layout, line, write_atomically
from quadric.core.saved import Saved

LAYOUT = Layout("inspection", 1, "inspect again, with --overwrite")
RESULTS = "results"
"""The folder of the results' files, beside the record file."""
FILE = re.compile(r'"file": "([^"/]+\.npz)"')
INCIDENTAL = ("checkpoint",)
"""Facts that may differ from session to session: where the same weights came from."""


@dataclass(frozen=True)
class InspectionHeader:
    """What is inspected, with what code, on what machine."""

    facts: dict[str, Any]
    environment: dict[str, str]
    format: int = LAYOUT.format


@dataclass(frozen=True)
class Finding:
    """A finished part: its result is in `file`. `warnings` are what quadric said meanwhile."""

    part: str
    title: str
    curvature: str
    settings: dict[str, Any]
    file: str
    seconds: float
    warnings: list[str]

    def answers(self, part: Part) -> bool:
        """Whether this is what `part` would measure."""
        return (self.part, self.settings) == (part.name, part.settings)


KINDS: dict[str, type[Point | Finding]] = {"point": Point, "finding": Finding}


@dataclass(frozen=True)
class Inspection:
    """A record file and its results: `findings` has the last of each part, `results` the same keys."""

    header: InspectionHeader
    point: Point | None
    findings: dict[str, Finding]
    results: dict[str, Saved]


class InspectionRecorder:
    """Writes the record file of an inspection, or goes on with it."""

    def __init__(self, path: Path, header: InspectionHeader) -> None:
        if not path.exists():
            write_atomically(path, line(LAYOUT.header, asdict(header)).encode())
        self._file = path.open("a", encoding="utf-8")
        self._results = path.parent / RESULTS
        self._results.mkdir(exist_ok=True)

    def __enter__(self) -> InspectionRecorder:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def begin(self, point: Point) -> None:
        """Append the point."""
        self._write("point", asdict(point))

    def finish(self, part: Part, result: Saved, seconds: float, warnings: Sequence[str]) -> Finding:
        """Save the result, then append the line that says so."""
        result.save(self._results / part.file)
        finding = Finding(
            part.name, part.title, part.curvature, part.settings, part.file, seconds, list(dict.fromkeys(warnings))
        )
        self._write("finding", asdict(finding))
        return finding

    def _write(self, kind: str, values: dict[str, Any]) -> None:
        self._file.write(line(kind, values))
        self._file.flush()


def is_inspection(path: Path) -> bool:
    """Whether `path` begins as the record file of an inspection does."""
    try:
        _header(path)
    except (OSError, ValueError):
        return False
    return True


def read_inspection(path: Path) -> Inspection:
    """The inspection in `path`.

    Raises ValueError where a line or a result cannot be read; a last line that is cut off is left out, as is its part.
    """
    header = _header(path)
    events, _ = LAYOUT.read_lines(path, lambda values: KINDS[values.pop("kind")](**values))
    findings = {event.part: event for event in events if isinstance(event, Finding)}
    point = next((event for event in events if isinstance(event, Point)), None)
    results = {name: Saved.load(path.parent / RESULTS / finding.file) for name, finding in findings.items()}
    return Inspection(header, point, findings, results)


def results_in(path: Path) -> list[str]:
    """The files of all results that `path` names, none where it is no inspection."""
    if not is_inspection(path):
        return []
    return list(dict.fromkeys(FILE.findall(path.read_text(encoding="utf-8", errors="replace"))))


def difference(earlier: InspectionHeader, facts: dict[str, Any]) -> str:
    """In what the facts differ from those of an earlier inspection; "" if in nothing that counts."""
    names = [name for name in dict.fromkeys([*earlier.facts, *facts]) if name not in INCIDENTAL]
    changed = [name for name in names if earlier.facts.get(name) != facts.get(name)]
    return ", ".join(f"{name} {earlier.facts.get(name)}, now {facts.get(name)}" for name in changed)


def _header(path: Path) -> InspectionHeader:
    return LAYOUT.read_header(path, lambda values: InspectionHeader(**values))
