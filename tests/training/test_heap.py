"""The heap that tensors are played to does what glibc's does."""

import subprocess
import sys

import pytest

from lmexp.training.heap import (
    HEADER_BYTES,
    LARGEST_IN_HEAP_BYTES,
    SLACK_BYTES,
    Event,
    Heap,
    born_for_good,
    peak_bytes,
)

KIB = 2**10


def test_only_a_very_large_block_is_mapped() -> None:
    heap = Heap()
    heap.allocate(0, LARGEST_IN_HEAP_BYTES)
    heap.allocate(1, LARGEST_IN_HEAP_BYTES // 2)
    assert heap.mapped == LARGEST_IN_HEAP_BYTES
    assert LARGEST_IN_HEAP_BYTES // 2 < heap.top < LARGEST_IN_HEAP_BYTES
    heap.free(0)
    assert heap.mapped == 0


def test_a_block_does_not_fit_where_one_of_its_size_lay() -> None:
    heap, size = Heap(), 64 * KIB - HEADER_BYTES  # so that one block begins where another ends
    for block in range(3):
        heap.allocate(block, size)
    top = heap.top
    heap.free(1)
    heap.allocate(3, size)
    assert heap.top == top + 64 * KIB
    heap.allocate(4, size - SLACK_BYTES)  # a smaller one does
    assert heap.top == top + 64 * KIB


def test_holes_side_by_side_become_one() -> None:
    heap = Heap()
    for block in range(4):
        heap.allocate(block, 64 * KIB)
    top = heap.top
    heap.free(1)
    heap.free(2)
    heap.allocate(4, 100 * KIB)
    assert heap.top == top
    for block in (0, 3, 4):
        heap.free(block)
    assert heap.top == 0


def test_what_is_freed_in_a_step_comes_again_and_what_stays_comes_once() -> None:
    stays, comes, goes = Event(0, 100 * KIB), Event(1, 60 * KIB), Event(1, 60 * KIB, is_end=True)
    assert 160 * KIB <= peak_bytes([stays, comes, goes]) < 165 * KIB


def test_short_lived_blocks_around_a_lasting_one_leave_holes() -> None:
    blocks = [Event(block, 100 * KIB) for block in range(20)]
    ends = [Event(block, 100 * KIB, is_end=True) for block in range(20) if block % 2]
    larger = [Event(20 + block, 110 * KIB) for block in range(10)]
    live = (10 * 100 + 10 * 110) * KIB
    assert peak_bytes([*blocks, *ends, *larger]) > live + 9 * 100 * KIB


def test_what_is_not_freed_was_born_for_good() -> None:
    weight, activation = Event(0, 4 * KIB), Event(1, 8 * KIB)
    assert born_for_good([weight, activation, Event(1, 8 * KIB, is_end=True)]) == [weight]


@pytest.mark.skipif(sys.platform != "linux", reason="asks glibc, and Linux for the memory of the process")
def test_the_pages_of_holes_go_back_to_the_system() -> None:
    program = """
import torch
from lmexp.training.resident import resident_bytes, return_holes
tensors = [torch.ones(16 * 2**10) for _ in range(2000)]  # 64 KiB each
del tensors[::2]
before = resident_bytes()
return_holes()
print(before - resident_bytes())
"""
    answer = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=True)
    assert int(answer.stdout) > 0.8 * 1000 * 64 * KIB
