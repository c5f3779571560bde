"""What a benchmark leaves behind: where it ran, its numbers as JSON, its tables as Markdown."""

from __future__ import annotations

import json
import os
import platform
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

from quadric import keep_freed_memory

RESULTS = Path(__file__).parent / "results"
PACKAGES = (
    "quadric",
    "torch",
    "numpy",
    "scipy",
    "curvlinops-for-pytorch",
    "backpack-for-pytorch",
    "hessian-eigenthings",
)


def header(rounds: int, *, keep_memory: bool = True) -> dict[str, object]:
    """Hardware, versions, threads, and how busy the machine was.

    From here on the process keeps freed memory, for everyone timed alike, unless `keep_memory` is False.
    """
    kept = keep_memory and keep_freed_memory()
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "processor": _processor(),
        "cores": cores,
        "threads": torch.get_num_threads(),
        "load_at_start": round(os.getloadavg()[0], 2),
        "python": platform.python_version(),
        "packages": {name: _version(name) for name in PACKAGES},
        "freed_memory": "kept" if kept else "left to the system",
        "rounds": rounds,
    }


def header_text(values: dict[str, object]) -> str:
    """The header as one paragraph."""
    packages = values["packages"]
    assert isinstance(packages, dict)
    listed = ", ".join(f"{name} {number}" for name, number in packages.items())
    return (
        f"{values['date']} · {values['processor']}, {values['cores']} cores, {values['threads']} threads, "
        f"load {values['load_at_start']} at the start · Python {values['python']}, {listed} · "
        f"freed memory {values['freed_memory']} · {values['rounds']} rounds"
    )


def markdown_table(columns: list[str], rows: list[list[str]]) -> str:
    """A Markdown table, padded so that it also reads as plain text."""
    cells = [[cell.replace("|", "\\|") for cell in row] for row in (columns, *rows)]
    widths = [max(len(row[i]) for row in cells) for i in range(len(columns))]
    lines = ["| " + " | ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)) + " |" for row in cells]
    lines.insert(1, "|" + "|".join("-" * (w + 2) for w in widths) + "|")
    return "\n".join(lines)


def write(folder: Path, name: str, values: dict[str, object], text: str) -> list[Path]:
    """Write name.json and name.md, each whole or not at all."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for suffix, content in (("json", json.dumps(values, indent=1, ensure_ascii=False) + "\n"), ("md", text)):
        path = folder / f"{name}.{suffix}"
        partial = path.with_suffix(f".{suffix}.partial")
        partial.write_text(content, encoding="utf-8")
        partial.replace(path)
        paths.append(path)
    return paths


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"
