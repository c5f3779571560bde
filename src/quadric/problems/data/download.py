"""Downloading with pooch: progress on the terminal, and nothing kept that fails its check."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from pathlib import Path
from types import TracebackType


def cache() -> Path:
    """The user's cache directory of quadric."""
    import pooch

    return Path(pooch.os_cache("quadric"))


def download(url: str, path: Path, check: Callable[[Path], object]) -> str | None:
    """Fetch `url` into `path` if `check` raises no `ValueError` on it; the reason for a failure, or `None`."""
    from pooch import HTTPDownloader
    from requests import ConnectionError

    partial = path.with_name(f"partial-{path.name}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with DownloadBar(path.name) as bar:
            HTTPDownloader(progressbar=bar, chunk_size=1 << 16)(url, str(partial), None)
        check(partial)
        partial.replace(path)
    except ConnectionError:
        return f"{url}: no connection"
    except (OSError, ValueError, zlib.error) as error:
        return f"{url}: {error}"
    finally:
        partial.unlink(missing_ok=True)
    return None


class DownloadBar:
    """A rich progress bar with the interface that pooch wants (`total`, `update`, `reset`, `close`)."""

    def __init__(self, title: str) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

        columns = TextColumn("downloading {task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn()
        self.progress = Progress(*columns, console=Console(stderr=True), transient=True)
        self.task = self.progress.add_task(title, total=None)
        self.total: int = 0

    def __enter__(self) -> DownloadBar:
        self.progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.progress.stop()

    def update(self, count: int) -> None:
        """`count` more bytes came."""
        self.progress.update(self.task, advance=count, total=self.total or None)

    def reset(self) -> None:
        """Back to zero; pooch calls this when all is there, before it fills the bar."""
        self.progress.reset(self.task)

    def close(self) -> None:
        """Nothing to close: the context manager stops the display."""
