"""From the command to the first optimizer step, beside importing torch and Lightning and nothing more."""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.measure import AGAIN, OURS, Benchmark, Goal, Quantities
from benchmarks.ours import QUIET
from benchmarks.process import ROOT, python

IMPORTS = "importing torch and Lightning"
OPTIONS = [
    "model=transformer",
    "tokenizer=bytes",
    "data.batch_size=12",
    "data.context_length=64",
    "trainer.max_steps=100000",
    "trainer.log_every_steps=1",
    "trainer.validate_every_steps=null",
]
ONLY_IMPORTS = "import os, torch, pytorch_lightning; os._exit(0)"
LONGEST_SECONDS = 120


@contextmanager
def to_the_first_step(*, threads: int) -> Iterator[Benchmark]:
    """The second start of `lmexp train`: its text is tokenized already."""
    with tempfile.TemporaryDirectory() as folder:
        yield Benchmark(
            counts="whole processes up to the first line of metrics.jsonl, written after the first step",
            sides={
                OURS: lambda number: _ours(folder, threads),
                IMPORTS: lambda number: {"start_seconds": python(["-c", ONLY_IMPORTS], folder).wall_seconds},
                AGAIN: lambda number: _ours(folder, threads),
            },
            warmups=1,
            goals=[Goal(IMPORTS, "start_seconds", -1, is_difference=True)],
        )


def _ours(folder: str, threads: int) -> Quantities:
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": str(threads), "LMEXP_CACHE": folder}
    with tempfile.TemporaryDirectory() as inside:
        start = time.perf_counter()
        process = subprocess.Popen(
            [sys.executable, "-m", "lmexp", "train", *OPTIONS, *QUIET],
            cwd=inside,
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            while not any(path.stat().st_size for path in Path(inside).glob("outputs/*/*/metrics.jsonl")):
                if process.poll() is not None or time.perf_counter() - start > LONGEST_SECONDS:
                    raise RuntimeError("lmexp train did not come to its first step")
                time.sleep(0.005)
            seconds = time.perf_counter() - start
        finally:
            process.kill()
            process.wait()
    return {"start_seconds": seconds}
