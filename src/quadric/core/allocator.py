"""The C library's heap: whether memory that tensors free stays with the process."""

from __future__ import annotations

import ctypes
import os
import sys

MMAP_THRESHOLD, TRIM_THRESHOLD = -3, -1
"""glibc's names for its two limits, in malloc.h."""
LARGEST = 32 * 2**20
"""The largest block, in bytes, that glibc lets one keep on the heap (DEFAULT_MMAP_THRESHOLD_MAX on 64 bits)."""


def keep_freed_memory() -> bool:
    """Let this process keep the memory that tensors on the CPU free; whether that could be arranged.

    glibc hands the free end of its heap back to the system once it exceeds twice the largest block freed so far, and
    takes it again at the next tensor, page by page. A pass that makes and drops activations above others that stay (a
    product, the forward pass of every step) can spend half its time there. Here blocks up to 32 MiB stay on the heap,
    and its end up to 64 MiB: what glibc itself comes to in a process that has once freed 32 MiB in one piece.
    Results do not change. The limits hold for the whole process: programs may call this, libraries should not.

    False where the C library is another one, or where `MALLOC_TRIM_THRESHOLD_` or `MALLOC_MMAP_THRESHOLD_` is set in
    the environment, which stays in force.
    """
    chosen = any(name in os.environ for name in ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_"))
    if chosen or not sys.platform.startswith("linux"):
        return False
    library = ctypes.CDLL(None)
    if not hasattr(library, "gnu_get_libc_version"):
        return False
    set_limit = library.mallopt
    set_limit.argtypes, set_limit.restype = (ctypes.c_int, ctypes.c_int), ctypes.c_int
    return bool(set_limit(MMAP_THRESHOLD, LARGEST)) and bool(set_limit(TRIM_THRESHOLD, 2 * LARGEST))
