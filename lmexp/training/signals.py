"""SIGTERM and SIGINT ask a run to stop at the next whole step, with a checkpoint; a second SIGINT stops it at once.

Ranks see a signal at different moments, so they agree: each hands in what it saw, and all read the result one step
later, when it is there without waiting.
"""

import signal
import threading
from types import FrameType
from typing import Any

import torch
from torch import distributed


class StopSignals:
    """Remembers a signal and lets the ranks agree on it."""

    def __init__(self) -> None:
        self.received = 0
        self.agreed = 0
        self._before: dict[int, Any] = {}
        self._group: Any = None
        self._pending: tuple[Any, torch.Tensor] | None = None

    def install(self) -> None:
        """Take over both signals; called again after Lightning has put its own handlers there."""
        if threading.current_thread() is not threading.main_thread():
            return
        for number in (signal.SIGTERM, signal.SIGINT):
            before = signal.signal(number, self._receive)
            self._before.setdefault(number, before)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, (signal.SIGTERM, signal.SIGINT))  # what a trial begins without

    def restore(self) -> None:
        """Give the signals back."""
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}

    def poll(self, world_size: int) -> bool:
        """Return whether all ranks stop now. Every rank must ask after every step."""
        self.agreed = self.received if world_size == 1 else self._agree()
        return bool(self.agreed)

    def _agree(self) -> int:
        if self._group is None:
            self._group = distributed.new_group(backend="gloo")
        result = 0
        if self._pending is not None:
            work, seen = self._pending
            work.wait()
            result = int(seen.item())
        mine = torch.tensor(self.received)
        work = distributed.all_reduce(mine, op=distributed.ReduceOp.MAX, group=self._group, async_op=True)
        self._pending = (work, mine)
        return result

    def _receive(self, number: int, frame: FrameType | None) -> None:
        if number == signal.SIGINT and self.received == signal.SIGINT:
            raise KeyboardInterrupt
        self.received = self.received or number
