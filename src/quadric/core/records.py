"""Record files: JSON lines, written as things happen, and honest about damage when they are read.

The first line is a header, every line has a `kind`, and numbers that are not finite are stored as null.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

FILE_NAME = "records.jsonl"
"""What the record file of a directory of results is called."""
Made = TypeVar("Made")
UNREADABLE = (ValueError, KeyError, TypeError, AttributeError)
"""What values that are not a record's raise where a record is made of them."""


def line(kind: str, values: dict[str, Any]) -> str:
    """One line of a record file."""
    return json.dumps({"kind": kind, **finite(values)}, ensure_ascii=False, allow_nan=False) + "\n"


def finite(value: Any) -> Any:
    """`value` with every number that is not finite replaced by `None`."""
    if isinstance(value, dict):
        return {key: finite(member) for key, member in value.items()}
    if isinstance(value, list):
        return [finite(member) for member in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def write_atomically(path: Path, content: bytes) -> None:
    """Put `content` at `path` so that a reader sees the old file or the new one, never a part.

    Where that fails, on a full disk say, the old file stays and nothing else does.
    """
    partial = path.with_name(f".{path.name}.partial")
    try:
        partial.write_bytes(content)
        os.replace(partial, path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def append(path: Path, content: bytes) -> None:
    """Put whole lines at the end of `path`: all of `content`, or, where that fails, nothing of it.

    It reaches the operating system before this returns, so that a program that is killed loses none of it.
    """
    with path.open("ab", buffering=0) as file:
        end = file.tell()
        try:
            written = 0
            while written < len(content):
                written += file.write(content[written:])
        except BaseException as error:
            os.truncate(path, end)
            if isinstance(error, OSError):
                raise OSError(error.errno, error.strerror, str(path)) from error
            raise


def mend(path: Path) -> bool:
    """Take away a last line that was cut off, so that whole ones can follow; whether there was one."""
    content = path.read_bytes()
    whole = content.rfind(b"\n") + 1
    if whole == len(content):
        return False
    with path.open("r+b") as file:
        file.truncate(whole)
    return True


@dataclass(frozen=True)
class Layout:
    """One sort of record file: the kind of its header, its format, and what to do about a file that can't be read."""

    header: str
    format: int
    advice: str

    def read_header(self, path: Path, make: Callable[[dict[str, Any]], Made]) -> Made:
        """What `make` makes of the header's values. Raises ValueError where `path` does not begin as it should."""
        with path.open(encoding="utf-8", errors="replace") as file:
            first = file.readline()
        try:
            values = json.loads(first)
            if values.pop("kind") != self.header or values["format"] != self.format:
                raise ValueError(f"it is of kind or format {values.get('format')!r}")
            return make(values)
        except UNREADABLE as error:
            raise ValueError(
                f"{path}: line 1 is not the header of a record file of format {self.format} ({error}). "
                f"It was written by something else or another version; {self.advice}."
            ) from error

    def read_lines(self, path: Path, make: Callable[[dict[str, Any]], Made]) -> tuple[list[Made], str | None]:
        """What `make` makes of each later line's values, and a sentence about a last line that is cut off.

        Such a line is left out. Raises ValueError where one before the last can't be read.
        """
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
        made: list[Made] = []
        damage = None
        for number, text in enumerate(lines[1:], start=2):
            try:
                made.append(make(json.loads(text)))
            except UNREADABLE as error:
                if number < len(lines):
                    raise ValueError(
                        f"{path}: line {number} is not a record ({error}). Remove that line, or {self.advice}."
                    ) from error
                damage = f"line {number}, the last, is cut off and was left out; the {number - 1} before it are whole"
        return made, damage
