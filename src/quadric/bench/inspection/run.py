"""The parts of an inspection one after the other; what is finished is kept, and not measured again."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence

from quadric.bench.inspection.parts import Part
from quadric.bench.inspection.records import Finding, InspectionRecorder
from quadric.bench.inspection.subject import Subject
from quadric.bench.runner import Stopwatch
from quadric.core.errors import QuadricWarning
from quadric.core.saved import Saved

Told = Callable[[Part, str], None]
"""Takes a line about where a part stands."""


def run(
    subject: Subject,
    parts: Sequence[Part],
    results: dict[str, Saved],
    recorder: InspectionRecorder,
    *,
    began: Callable[[Part], None],
    told: Told,
    ended: Callable[[Part, Finding], None],
) -> None:
    """Measure `parts` in order, record each as it ends, and add it to `results`, which has those of earlier parts."""
    for part in parts:
        began(part)
        watch = Stopwatch(subject.settings.device)
        with warnings.catch_warnings(record=True) as caught, watch:
            warnings.simplefilter("always", QuadricWarning)
            results[part.name] = part.measure(results, lambda text, part=part: told(part, text))  # type: ignore[misc]
        said = [" ".join(str(warning.message).split()) for warning in caught]
        ended(part, recorder.finish(part, results[part.name], watch.seconds, said))
