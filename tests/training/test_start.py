"""How a process begins: what it may use, and what it loads."""

import os
import subprocess
import sys

from lmexp.training.start import usable_cores

LOADS = """
import gc
from lmexp.training.start import loading
with loading():
    assert not gc.isenabled()
    import torch
stay = gc.get_freeze_count()
assert gc.isenabled() and stay > 50_000, stay
with loading():
    assert gc.isenabled()
assert gc.get_freeze_count() == stay
"""


def run(script: str) -> str:
    command = [sys.executable, "-c", script]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout


def test_garbage_is_not_looked_for_while_torch_is_loaded_the_first_time() -> None:
    run(LOADS)


def test_a_process_that_is_bound_to_a_core_counts_one() -> None:
    bound = "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})\n"
    assert int(run(f"{bound}from lmexp.training.start import usable_cores; print(usable_cores())")) == 1
    assert 1 <= usable_cores() <= (os.cpu_count() or 1)
