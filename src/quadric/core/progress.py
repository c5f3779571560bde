"""Progress of long work: to the caller's function, else on a terminal's stderr where `rich` is installed."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

Progress = Callable[[str], None]
"""Takes one line about where the work stands."""

PATIENCE = 2.0
"""Seconds of work before anything is shown on a terminal."""


class Reporter:
    """Within the block, `report(line)` passes lines on; nobody is told where there is nobody to tell."""

    def __init__(self, progress: Progress | None, name: str) -> None:
        self._progress = progress
        self._name = name
        self._start = time.monotonic()
        self._status: Any = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._status is not None:
            self._status.stop()

    def report(self, line: str) -> None:
        """Where the work stands, in one line."""
        if self._progress is not None:
            self._progress(line)
        elif self._status is not None:
            self._status.update(f"{self._name}: {line}")
        elif time.monotonic() - self._start > PATIENCE and sys.stderr is not None and sys.stderr.isatty():
            self._open(line)

    def _open(self, line: str) -> None:
        self._start = float("inf")  # tried once
        try:
            from rich.console import Console
        except ImportError:
            return
        self._status = Console(stderr=True).status(f"{self._name}: {line}")
        self._status.start()
