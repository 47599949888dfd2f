"""How the time of a function grows with its text, whatever else the machine does."""

import gc
import time
from collections.abc import Callable


def assert_time_grows_with_length(work: Callable[[str], object], unit: str, length: int = 8_000) -> None:
    """Assert that four times the text takes about four times as long; what is quadratic takes sixteen times.

    The best of three is the time: collections of the heap of a whole test session take longer than the work.
    """
    short, long = ((unit * size)[:size] for size in (length, 4 * length))
    gc.disable()
    try:
        assert _seconds(work, long) < 8 * _seconds(work, short) + 0.02
    finally:
        gc.enable()


def _seconds(work: Callable[[str], object], text: str) -> float:
    best = float("inf")
    for _ in range(3):
        start = time.thread_time()
        work(text)
        best = min(best, time.thread_time() - start)
    return best
