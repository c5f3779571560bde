"""Where data files are found: a directory the user names, the system's packages, the user's cache, or the network.

What is checked is the SHA-256 of the *uncompressed* content, so a file that was compressed again elsewhere is as good
as the published one, and a changed one is refused wherever it lies.
"""

from __future__ import annotations

import gzip
import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

from quadric.problems.data.download import cache, download

VARIABLE = "QUADRIC_DATA"
SYSTEM = (Path("/usr/share/datasets"), Path("/usr/local/share/datasets"))


@dataclass(frozen=True)
class Collection:
    """The files of one data set: `sha256` maps a file's name, without `.gz`, to the hash of its uncompressed content.

    `folders` are the names under which people keep it inside a data directory; `mirrors` are addresses of the files,
    compressed if they end with `.gz`, with `{name}` for a file's name; `remedy` tells, in words, how else to get it.
    """

    title: str
    folders: tuple[str, ...]
    mirrors: tuple[str, ...]
    sha256: dict[str, str]
    remedy: str


def places(data_dir: Path | None) -> list[Path]:
    """The directories that are looked through, in this order, each with the data set's folders in it.

    Raises:
        ValueError: `data_dir`, or the directory that QUADRIC_DATA names, does not exist.
    """
    named = {"--data-dir": data_dir, VARIABLE: Path(os.environ[VARIABLE]) if os.environ.get(VARIABLE) else None}
    for origin, directory in named.items():
        if directory is not None and not directory.is_dir():
            raise ValueError(
                f"The data directory {str(directory)!r} (from {origin}) does not exist. Create it or name another."
            )
    return [directory for directory in named.values() if directory is not None] + [*SYSTEM, cache()]


def fetch(collection: Collection, data_dir: Path | None = None) -> dict[str, bytes]:
    """The uncompressed content of every file of `collection`, downloading what is in none of its `places`.

    Raises:
        ValueError: a file's content is not what its hash promises.
        FileNotFoundError: a file is nowhere and cannot be downloaded; the message says where it was looked for.
    """
    directories = places(data_dir)
    return {name: content(collection, name, directories) for name in collection.sha256}


def content(collection: Collection, name: str, directories: list[Path]) -> bytes:
    """The uncompressed, checked content of the file `name`."""
    for directory in (root / folder for root in directories for folder in ("", *collection.folders)):
        for path in (directory / name, directory / f"{name}.gz"):
            if path.is_file():
                return checked(collection, name, path)
    failures = []
    for mirror in collection.mirrors:
        url = mirror.format(name=name)
        kept = cache() / collection.folders[0] / f"{name}{'.gz' if url.endswith('.gz') else ''}"
        failure = download(url, kept, lambda path: checked(collection, name, path))
        if failure is None:
            return checked(collection, name, kept)
        failures.append(failure)
    files = ", ".join(f"{file}[.gz]" for file in collection.sha256)
    raise FileNotFoundError(
        f"{collection.title}: {name}[.gz] was not found in {', '.join(map(str, directories))} (nor in their folders "
        f"{', '.join(collection.folders)}), and could not be downloaded ({'; '.join(failures)}). To get it: "
        f"{collection.remedy}, or put {files} into a directory and name that with --data-dir or {VARIABLE}."
    )


def checked(collection: Collection, name: str, path: Path) -> bytes:
    """The uncompressed content of `path`, which must be the published one."""
    try:
        raw = path.read_bytes()
        raw = gzip.decompress(raw) if path.suffix == ".gz" else raw
    except (gzip.BadGzipFile, EOFError) as error:
        raise ValueError(f"{path}: expected a gzip file, but {error}. Remove it or fetch it again.") from error
    found = hashlib.sha256(raw).hexdigest()
    if found != collection.sha256[name]:
        raise ValueError(
            f"{path}: this is not the published {name} of {collection.title}: the SHA-256 of its uncompressed content "
            f"should be {collection.sha256[name]} and is {found}. Remove it or fetch it again."
        )
    return raw
