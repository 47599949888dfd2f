"""Whole processes: what they print, how long they take, and the most memory they held."""

import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]


@dataclass(frozen=True)
class Finished:
    """A process that has ended well."""

    output: str
    errors: str
    wall_seconds: float
    peak_bytes: int
    """Its largest resident set, as the kernel says when it has ended."""


def python(arguments: list[str], folder: Path | str, *, threads: int | None = None) -> Finished:
    """Run this Python with arguments in a folder, lmexp importable.

    Raises:
        RuntimeError: it failed; says what it printed last.
    """
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    if threads is not None:
        environment |= {"OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)}
    with tempfile.TemporaryFile("w+") as output, tempfile.TemporaryFile("w+") as errors:
        start = time.perf_counter()
        child = subprocess.Popen(
            [sys.executable, *arguments], cwd=folder, env=environment, stdout=output, stderr=errors
        )
        _, status, usage = os.wait4(child.pid, 0)
        seconds = time.perf_counter() - start
        child.returncode = os.waitstatus_to_exitcode(status)
        output.seek(0)
        errors.seek(0)
        said, complained = output.read(), errors.read()
    if child.returncode:
        command = f"python {' '.join(arguments)}"
        raise RuntimeError(f"{command} ended with exit code {child.returncode}:\n{complained[-2000:]}")
    return Finished(said, complained, seconds, usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024))
