"""How much memory there is, and how much a piece of work takes."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import torch

PROCESS, GROUPS = Path("/proc/self"), Path("/sys/fs/cgroup")
"""Where Linux tells of this process, and of the control groups that limit it."""
RESET_PEAK = "5"
"""What makes `clear_refs` forget the peak, in proc(5)."""


def memory_limit(device: torch.device | str = "cpu") -> int | None:
    """The most bytes that this process can ever have on a device, None where the system does not tell.

    On the CPU that is the machine's memory, or less where a control group (a container, a batch system, systemd) allows
    less, be it of version 1 or 2.
    """
    device = torch.device(device)
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[1])
    if device.type != "cpu":
        return None
    limits = list(_group_limits())
    with suppress(ValueError, OSError, AttributeError):
        limits.append(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    return min(limits, default=None)


def _group_limits() -> Iterator[int]:
    """The limits of the control groups that the process is in, and of those around them."""
    try:
        lines = (PROCESS / "cgroup").read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers == "":  # version 2
            root, name = GROUPS, "memory.max"
        elif "memory" in controllers.split(","):
            root, name = GROUPS / "memory", "memory.limit_in_bytes"
        else:
            continue
        inner = PurePosixPath(path.lstrip("/"))
        # within a container the path may be that outside of it, where only the root can be read
        for group in (inner, *inner.parents):
            try:
                yield int((root / group / name).read_text())
            except (OSError, ValueError):  # not there, or "max"
                continue


@dataclass
class Growth:
    """`bytes` by which the memory in use grew at most, None where the system does not tell; set when it is over."""

    bytes: int | None = None


@contextmanager
def growth(device: torch.device) -> Iterator[Growth]:
    """Measure what the work within the block takes at its peak, beyond what was in use before.

    Of the GPU where `device` is one: what torch's allocator hands out. Else of the whole process: the peak is reset
    before, and where the system does not allow that, told only if it rose. Memory that the process held unused counts
    as in use, so that the first look at a piece of work says most.
    """
    found = Growth()
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        yield found
        found.bytes = torch.cuda.max_memory_allocated(device) - before
        return
    reset = _reset_peak()
    used, peak = _status("VmRSS"), _status("VmHWM")
    yield found
    after = _status("VmHWM")
    if used is not None and peak is not None and after is not None and (reset or after > peak):
        found.bytes = max(0, after - used)


def _reset_peak() -> bool:
    try:
        (PROCESS / "clear_refs").write_text(RESET_PEAK)
    except OSError:
        return False
    return True


def _status(name: str) -> int | None:
    """An entry of the process's status, in bytes."""
    try:
        lines = (PROCESS / "status").read_text().splitlines()
    except OSError:
        return None
    return next((1024 * int(line.split()[1]) for line in lines if line.startswith(f"{name}:")), None)
