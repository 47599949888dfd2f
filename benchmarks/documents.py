"""Attention to packed documents: one by one, and over whole rows with a mask, forward and backward."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from benchmarks.measure import AGAIN, OURS, Benchmark, Goal
from lmexp.models.documents import apart, document_mask
from lmexp.models.layers import attend

ROWS, HEADS, HEAD_SIZE, MEAN_LENGTH, CALLS = 4, 6, 64, 128, 5
MASKED = "with a mask"
LENGTHS = (512, 1024)


@contextmanager
def of_packed_rows(*, threads: int) -> Iterator[Benchmark]:
    """Documents of 128 tokens on average, in rows of two lengths."""
    torch.set_num_threads(threads)
    yield Benchmark(
        counts=f"{CALLS} passes of one layer, {HEADS} heads of {HEAD_SIZE}; documents or mask made anew in each",
        sides={
            OURS: lambda number: {f"at_{n}_milliseconds": _milliseconds(n, is_masked=False) for n in LENGTHS},
            MASKED: lambda number: {f"at_{n}_milliseconds": _milliseconds(n, is_masked=True) for n in LENGTHS},
            AGAIN: lambda number: {f"at_{n}_milliseconds": _milliseconds(n, is_masked=False) for n in LENGTHS},
        },
        warmups=1,
        goals=[Goal(MASKED, f"at_{n}_milliseconds", 1) for n in LENGTHS],
    )


def _milliseconds(length: int, *, is_masked: bool) -> float:
    draw = torch.Generator().manual_seed(length)
    segments_BT = (torch.rand(ROWS, length, generator=draw) < 1 / MEAN_LENGTH).cumsum(1)
    inputs = [torch.randn(ROWS, length, HEADS, HEAD_SIZE, generator=draw, requires_grad=True) for _ in range(3)]
    start = time.perf_counter()
    for _ in range(CALLS):
        mask = document_mask(segments_BT, causal=True) if is_masked else apart(segments_BT, causal=True)
        assert mask is not None
        q, k, v = (x.transpose(1, 2) for x in inputs)
        attend(q, k, v, mask=mask).sum().backward()
    return (time.perf_counter() - start) / CALLS * 1e3
