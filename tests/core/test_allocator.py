"""Keeping freed memory: fewer pages taken anew, and the user's own settings respected."""

from __future__ import annotations

import os
import platform
import subprocess
import sys

import pytest

from quadric.core import allocator

FAULTS = """
import resource
import torch
from quadric.core.allocator import keep_freed_memory

kept = keep_freed_memory()
torch.set_num_threads(1)
below = [torch.ones(2**18) for _ in range(8)]
def work():
    for _ in range(20):
        parts = [torch.ones(2**20) for _ in range(6)]
work()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
work()
print(kept, resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def run(**environment: str) -> tuple[str, int]:
    """Whether memory is kept, and the page faults of a loop that makes 6 blocks of 4 MiB and drops them, 20 times."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("MALLOC_")}
    done = subprocess.run(
        [sys.executable, "-c", FAULTS], capture_output=True, text=True, check=True, env=clean | environment
    )
    kept, faults = done.stdout.split()
    return kept, int(faults)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the C library is not glibc")
def test_kept_memory_is_not_taken_again_page_by_page() -> None:
    """The loop uses 122,880 pages of 4 KiB; those it takes anew must be few. (Left alone it may take most of them.)"""
    kept, faults = run()
    assert kept == "True"
    assert faults < 6_000


def test_the_users_own_setting_stays() -> None:
    """A limit in the environment is a choice somebody made."""
    assert run(MALLOC_TRIM_THRESHOLD_="1000000")[0] == "False"


def test_both_limits_are_set(monkeypatch):
    """Trimming and mapping are glibc's two ways to give memory back."""
    limits = {}

    class Library:
        gnu_get_libc_version = None

        def __init__(self, name):
            def mallopt(which, value):
                limits[which] = value
                return 1

            self.mallopt = mallopt

    monkeypatch.setattr(allocator.ctypes, "CDLL", Library)
    monkeypatch.setattr(allocator.sys, "platform", "linux")
    for name in ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_"):
        monkeypatch.delenv(name, raising=False)
    assert allocator.keep_freed_memory()
    assert limits == {-1: 2**26, -3: 2**25}
