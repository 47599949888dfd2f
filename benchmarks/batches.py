"""One batch of 12 x 64 from a token file of 100 MB, beside nanoGPT's get_batch on the same file."""

import ast
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.measure import AGAIN, OURS, Benchmark, Goal, Quantities
from lmexp.config.data import TextConfig
from lmexp.config.tokenizer import BytesConfig
from lmexp.data.order import training_batches
from lmexp.tokenization import learn, token_files

ROWS, CONTEXT, BATCHES = 12, 64, 2000
FILE_BYTES = 100_000_000
PEER = "nanoGPT"


@contextmanager
def of_a_large_file(checkout: Path, *, threads: int) -> Iterator[Benchmark]:
    """Batches that are ready to be computed with, rows drawn from all over the file."""
    torch.set_num_threads(threads)
    with tempfile.TemporaryDirectory() as folder:
        tokenizer = learn(BytesConfig(), ())
        text = np.random.default_rng(0).integers(32, 127, size=FILE_BYTES // 2, dtype=np.uint8).tobytes().decode()
        counts = token_files.write(Path(folder), "train", [text], tokenizer, end_of_document=False, separator="")
        file = token_files.read(Path(folder), "train", counts, tokenizer.vocab_size)
        config = TextConfig(path="text.txt", batch_size=ROWS, context_length=CONTEXT)
        batches = training_batches(file, config, seed=1, accumulate=1)
        theirs = _get_batch(checkout, Path(folder))
        yield Benchmark(
            counts=f"{BATCHES} batches in this process; opening the file and the first epoch's order do not count",
            sides={
                OURS: lambda number: _timed(lambda k: batches[number * BATCHES + k]),
                PEER: lambda number: _timed(lambda k: theirs("train")),
                AGAIN: lambda number: _timed(lambda k: batches[number * BATCHES + k]),
            },
            warmups=1,
            goals=[Goal(None, "batch_milliseconds", 0.15)],
        )


def _timed(batch: Callable[[int], Any]) -> Quantities:
    start = time.perf_counter()
    for k in range(BATCHES):
        batch(k)
    return {"batch_milliseconds": (time.perf_counter() - start) / BATCHES * 1000}


def _get_batch(checkout: Path, folder: Path) -> Callable[[str], Any]:
    """Return get_batch out of nanoGPT's train.py, which is a script and cannot be imported."""
    script = ast.parse((checkout / "train.py").read_text())
    found: list[ast.stmt] = [node for node in script.body if getattr(node, "name", "") == "get_batch"]
    names: dict[str, Any] = {
        "os": os,
        "np": np,
        "torch": torch,
        "data_dir": str(folder),
        "block_size": CONTEXT,
        "batch_size": ROWS,
        "device": "cpu",
        "device_type": "cpu",
    }
    exec(compile(ast.Module(found, []), "train.py", "exec"), names)
    return names["get_batch"]
