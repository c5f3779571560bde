"""Limits of memory as control groups of either version set them, and the peak of a piece of work."""

import subprocess
import sys

import pytest
import torch

from quadric.core import memory
from quadric.core.space import Space
from quadric.operators import Zero

GIB = 2**30
CPU = torch.device("cpu")


@pytest.fixture
def system(tmp_path, monkeypatch):
    """A machine of 8 GiB whose /proc and /sys are folders."""
    monkeypatch.setattr(memory, "PROCESS", tmp_path / "proc")
    monkeypatch.setattr(memory, "GROUPS", tmp_path / "groups")
    monkeypatch.setattr(memory.os, "sysconf", {"SC_PAGE_SIZE": 4096, "SC_PHYS_PAGES": 8 * GIB // 4096}.get)

    def put(**files):
        for name, text in files.items():
            path = tmp_path / name.replace("__", "/").replace("_dot_", ".")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)

    return put


def test_without_groups_it_is_the_machines(system):
    assert memory.memory_limit() == 8 * GIB


@pytest.mark.parametrize(
    ("files", "expected"),
    {
        "version 2": (
            {"proc__cgroup": "0::/user/job\n", "groups__user__job__memory_dot_max": f"{2 * GIB}\n"},
            2 * GIB,
        ),
        "version 2, a group around it": (
            {
                "proc__cgroup": "0::/user/job\n",
                "groups__user__job__memory_dot_max": "max\n",
                "groups__user__memory_dot_max": f"{3 * GIB}\n",
            },
            3 * GIB,
        ),
        "version 2, in a container": ({"proc__cgroup": "0::/\n", "groups__memory_dot_max": f"{GIB}\n"}, GIB),
        "version 2, unlimited": ({"proc__cgroup": "0::/\n", "groups__memory_dot_max": "max\n"}, 8 * GIB),
        "version 1": (
            {
                "proc__cgroup": "5:cpu,cpuacct:/job\n4:hugetlb,memory:/job\n0::/\n",
                "groups__memory__job__memory_dot_limit_in_bytes": f"{4 * GIB}\n",
            },
            4 * GIB,
        ),
        "version 1, in a container": (
            {
                "proc__cgroup": "4:memory:/docker/0123\n",
                "groups__memory__memory_dot_limit_in_bytes": f"{5 * GIB}\n",
            },
            5 * GIB,
        ),
        "version 1, unlimited": (
            {
                "proc__cgroup": "4:memory:/\n",
                "groups__memory__memory_dot_limit_in_bytes": "9223372036854771712\n",
            },
            8 * GIB,
        ),
    }.values(),
)
def test_groups_set_limits(system, files, expected):
    system(**files)
    assert memory.memory_limit() == expected


def test_a_system_that_tells_nothing(system, monkeypatch):
    monkeypatch.delattr(memory.os, "sysconf")
    assert memory.memory_limit() is None
    assert memory.memory_limit("meta") is None
    with memory.growth(CPU) as grown:
        pass
    assert grown.bytes is None


def test_a_dense_matrix_larger_than_the_limit_is_refused(system):
    operator = Zero(Space.euclidean(20_000))
    system(proc__cgroup="0::/\n", groups__memory_dot_max=f"{GIB}\n")
    expected = (
        r"A dense matrix of shape \[20000, 20000\] takes 1\.5 GiB, and the memory is 1\.0 GiB in all\. Use products"
    )
    with pytest.raises(ValueError, match=expected):
        operator.to_dense()


PEAK = """
import torch
from quadric.core import memory
size = 48 * 2**20
torch.ones(4 * size, dtype=torch.uint8)  # a higher peak, before
with memory.growth(torch.device("cpu")) as grown:
    torch.ones(size, dtype=torch.uint8)
print(None if grown.bytes is None else grown.bytes / size)
"""


def test_the_peak_is_that_of_the_work_and_not_of_what_went_before():
    """In a process of its own, since other tests let the heap keep what they freed."""
    told = subprocess.run([sys.executable, "-c", PEAK], capture_output=True, text=True, check=True).stdout.strip()
    if told == "None":
        pytest.skip("the system does not tell")
    assert 0.9 <= float(told) <= 1.5


@pytest.mark.parametrize(("reset", "peak", "expected"), [(False, 900, None), (False, 1500, 1100), (True, 900, 500)])
def test_a_peak_that_cannot_be_reset_is_told_only_if_it_rose(system, monkeypatch, reset, peak, expected):
    system(proc__status="Name:\tpython\nVmHWM:\t    1000 kB\nVmRSS:\t     400 kB\n")
    monkeypatch.setattr(memory, "_reset_peak", lambda: reset)
    with memory.growth(CPU) as grown:
        system(proc__status=f"VmHWM:\t{peak if reset else max(peak, 1000)} kB\nVmRSS:\t 500 kB\n")
    assert grown.bytes == (None if expected is None else 1024 * expected)
