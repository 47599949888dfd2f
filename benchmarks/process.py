"""Whole processes: what they print, how long they take, and the most memory they held."""

import json
import os
import subprocess
import sys
import tempfile
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


LAUNCHER = """
import json, os, sys, time
start = time.perf_counter()
child = os.posix_spawn(sys.argv[2], sys.argv[2:], os.environ)
_, status, usage = os.wait4(child, 0)
found = [time.perf_counter() - start, usage.ru_maxrss, os.waitstatus_to_exitcode(status)]
with open(sys.argv[1], "w") as file:
    json.dump(found, file)
"""
"""Run by a small Python of its own: what starts a process lends it its own size, as the kernel counts."""


def python(arguments: list[str], folder: Path | str, *, threads: int | None = None) -> Finished:
    """Run this Python with arguments in a folder, lmexp importable.

    Raises:
        RuntimeError: it failed; says what it printed last.
    """
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    if threads is not None:
        environment |= {"OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)}
    with tempfile.TemporaryDirectory() as place:
        found = Path(place) / "found.json"
        launcher = [sys.executable, "-I", "-S", "-c", LAUNCHER, str(found), sys.executable, *arguments]
        ended = subprocess.run(launcher, cwd=folder, env=environment, capture_output=True, text=True)
        seconds, peak, exit_code = json.loads(found.read_text())
    if exit_code:
        command = f"python {' '.join(arguments)}"
        raise RuntimeError(f"{command} ended with exit code {exit_code}:\n{ended.stderr[-2000:]}")
    return Finished(ended.stdout, ended.stderr, seconds, peak * (1 if sys.platform == "darwin" else 1024))
