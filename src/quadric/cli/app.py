"""The `quadric` command: checks that its libraries are installed, then hands over to the commands, one file each."""

from __future__ import annotations

import sys
from importlib.util import find_spec
from typing import NoReturn

NEEDED = ("typer", "rich", "matplotlib", "jinja2", "sklearn", "pooch")

INTERRUPTED = 130
"""What typer makes of Ctrl-C that no command has caught."""


def main() -> None:
    """Run the command line. Exit status: 0 done, 2 bad usage, 1 failed, with the reason in one line."""
    missing = [name for name in NEEDED if find_spec(name) is None]
    if missing:
        fail(f"the quadric command needs {', '.join(missing)}; install them with: pip install 'quadric[bench]'")
    try:
        from quadric.cli.commands import app
        from quadric.core.allocator import keep_freed_memory

        keep_freed_memory()
        app()
    except (KeyboardInterrupt, SystemExit) as stop:
        if isinstance(stop, SystemExit) and stop.code != INTERRUPTED:
            raise
        fail("interrupted.")
    except (ValueError, TypeError, OSError, RuntimeError) as error:
        fail(reason(error))


def fail(line: str) -> NoReturn:
    """Exit with status 1 and this reason."""
    print("error:", line, file=sys.stderr)
    raise SystemExit(1) from None


def reason(error: Exception) -> str:
    """An error in one line; those of the operating system without their numbers."""
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    return " ".join(str(error).split()) or type(error).__name__
