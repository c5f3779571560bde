"""Peak memory of a callable on the CPU.

PyTorch's profiler is told of every block that its CPU allocator hands out and takes back. The peak is the largest
running sum of those events, that is, the most bytes of tensor storage alive at once beyond what was alive before the
call (a block older than the call does not count when it is freed). The figure is exact and repeats to the byte; it
leaves out what does not pass through PyTorch's allocator: scratch space inside BLAS and oneDNN, and Python's objects.
"""

from __future__ import annotations

import gc
import os
from collections.abc import Callable

# The profiler's library announces its start and stop on standard error unless told otherwise before its first use.
os.environ.setdefault("KINETO_LOG_LEVEL", "99")

from torch.profiler import ProfilerActivity, profile


def peak_bytes(run: Callable[[], object]) -> int:
    """The peak of one call, in bytes. Call it once before, so that lazy set-up is not counted."""
    gc.collect()
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True, acc_events=False) as profiler:
        result = run()
    del result
    events = [event for event in profiler.profiler.kineto_results.events() if event.name() == "[memory]"]
    alive = peak = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        alive += event.nbytes()
        peak = max(peak, alive)
    return peak
