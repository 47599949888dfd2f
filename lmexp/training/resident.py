"""The memory of this process, as the operating system counts it, and how malloc gives it back."""

import ctypes
import os
import resource
import sys
from contextlib import suppress
from pathlib import Path

import torch

from lmexp.training.heap import LARGEST_IN_HEAP_BYTES

RUN_BYTES = 50 * 2**20
"""What any run adds to a process that has imported everything: pages of torch's libraries, threads, the text, the
trainer, checkpoints. Measured on runs of a model with next to no tensors: 51 to 57 MiB."""

MAPPED_FROM_BYTES = 2**20
HEAP_LIMIT_BYTES = 256 * 2**20
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
LARGEST_INT = 2**31 - 1


def resident_bytes() -> int:
    """Return the memory that this process has now."""
    return _status("VmRSS") or _max_resident_bytes()


def available_bytes() -> int:
    """Return the memory that this process may hold: what it has, and what the machine or a container has left."""
    limits = [os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")]
    with suppress(OSError, ValueError):
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                limits.append(int(line.split()[1]) * 1024 + resident_bytes())
    with suppress(OSError, ValueError):  # "max" where there is no limit
        most, used = (int(Path("/sys/fs/cgroup", name).read_text()) for name in ("memory.max", "memory.current"))
        limits.append(most - used + resident_bytes())
    return min(limits)


def forget_peak() -> None:
    """Begin to measure the peak anew, where that can be done."""
    if torch.cuda.is_initialized():
        torch.cuda.reset_peak_memory_stats()
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def peak_bytes(device: torch.device) -> int:
    """Return the most memory there was: of tensors on a GPU, of the whole process elsewhere."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return _status("VmHWM") or _max_resident_bytes()


def _status(key: str) -> int:
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return 0
    return next((1024 * int(line.split()[1]) for line in lines if line.startswith(f"{key}:")), 0)


def _max_resident_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def returns_large_tensors(bytes_in_heap: int) -> bool:
    """Say whether a run has malloc give large tensors back, for its heap would be large."""
    return bytes_in_heap > HEAP_LIMIT_BYTES and sys.platform == "linux"


def set_up_malloc(bytes_in_heap: int) -> None:
    """Have malloc keep what is freed for the next step, or give large tensors back where its heap would be large.

    By itself the C library gives the end of its heap back whenever it is free, and asks for it again a moment later: a
    step of a small model met 500 to 8,000 page faults, a fifth of its time. But to place a tensor on a cache line it
    asks for a little more than the hole has that the same tensor left a step before (glibc before 2.38), so a heap
    grows. Measured with 2 GB of activations: 4.0 GB after four steps, 2.4 GB where tensors of 1 MiB are given back,
    for 4 % of the time.
    """
    if sys.platform != "linux" or not hasattr(ctypes.CDLL(None), "mallopt"):
        return
    mallopt = ctypes.CDLL(None).mallopt
    if returns_large_tensors(bytes_in_heap):
        mallopt(M_MMAP_THRESHOLD, MAPPED_FROM_BYTES)
    else:
        mallopt(M_MMAP_THRESHOLD, LARGEST_IN_HEAP_BYTES)
        mallopt(M_TRIM_THRESHOLD, LARGEST_INT)


def return_holes() -> None:
    """Have malloc give the pages of its holes back to the system, where the C library can."""
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if trim is not None:
            trim(0)
