"""The code and the machine that numbers come from."""

from __future__ import annotations

import hashlib
import os
import platform
import subprocess
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import torch

import quadric


def describe(device: torch.device) -> dict[str, str]:
    """Versions, hardware and time, in words."""
    facts = {
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "quadric": quadric.__version__,
        "revision": revision(),
        "code": code(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "system": f"{platform.system()} {platform.machine()}",
        "processor": f"{processor()}, {os.cpu_count()} cores",
        "threads": str(torch.get_num_threads()),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else str(device),
    }
    return {name: fact for name, fact in facts.items() if fact}


def revision() -> str:
    """The git revision of the checkout this package runs from, with "+" if files changed since; "" elsewhere."""
    package = Path(quadric.__file__).resolve().parent
    try:
        if Path(git(package, "rev-parse", "--show-toplevel")) / "src" / "quadric" != package:
            return ""
        changed = git(package, "status", "--porcelain", "--untracked-files=no")
        return git(package, "rev-parse", "--short=12", "HEAD") + ("+" if changed else "")
    except (OSError, subprocess.SubprocessError):
        return ""


def code() -> str:
    """The beginning of a SHA-256 of the package's sources, which tells apart what git's revision does not."""
    package = Path(quadric.__file__).resolve().parent
    digest = hashlib.sha256()
    for path in sorted(package.rglob("*.py")):
        digest.update(path.relative_to(package).as_posix().encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:12]


def git(directory: Path, *arguments: str) -> str:
    """What git answers."""
    command = ["git", "-C", str(directory), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()


def processor() -> str:
    """The processor's name, as far as the system tells."""
    information = Path("/proc/cpuinfo")
    if information.exists():
        for line in information.read_text(errors="replace").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or "unknown processor"
