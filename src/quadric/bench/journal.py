"""A record file that is made and continued alike."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from quadric.core.records import UNREADABLE, Layout, line, mend, write_atomically


class Journal:
    """Appends lines to a record file; makes it, with its header, where it is not there.

    A last line that was cut off, by a kill or a full disk, is taken away first.
    """

    def __init__(self, path: Path, layout: Layout, header: Mapping[str, Any]) -> None:
        if not path.exists():
            write_atomically(path, line(layout.header, {"format": layout.format, **header}).encode())
        mend(path)
        self._file = path.open("a", encoding="utf-8")

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def write(self, kind: str, values: Mapping[str, Any]) -> None:
        """Append a line and hand it to the operating system."""
        self._file.write(line(kind, dict(values)))
        self._file.flush()


def header_kind(path: Path) -> str:
    """The kind of a record file's header; "" where there is none."""
    try:
        with path.open(encoding="utf-8", errors="replace") as file:
            return str(json.loads(file.readline())["kind"])
    except (OSError, *UNREADABLE):
        return ""
