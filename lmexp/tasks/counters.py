"""What a task counts while it trains and validates, apart from Lightning's own bookkeeping."""

import time
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor


@dataclass
class Counters:
    """What changes with every step, kept apart because setting an attribute of a module is slow."""

    batches_seen: int = 0
    tokens_seen: int = 0
    """Tokens read in training, over all ranks; what fills up a row does not count."""
    tokens_logged: int = 0
    """How many of them there were when the metrics of training were written last."""
    losses_summed: int = 0
    loss_sum: Tensor = field(default_factory=lambda: torch.zeros(()))
    gradient_norm: Tensor | None = None


class Evaluation:
    """Sums over a split."""

    def __init__(self, num_sums: int = 1) -> None:
        self.num_sums = num_sums
        self.sums = torch.zeros((), dtype=torch.float64)
        self.num_targets = torch.zeros((), dtype=torch.float64)
        self.carried: Any = None

    def add(self, sums: Tensor, num_targets: Tensor, carried: Any) -> None:
        """Add a batch."""
        self.sums = self.sums + sums.double()
        self.num_targets = self.num_targets + num_targets
        self.carried = carried

    @property
    def totals(self) -> Tensor:
        """The sums, and the number of targets after them."""
        return torch.cat((self.sums.expand(self.num_sums), self.num_targets[None]))


class Stopwatch:
    """Time spent in training steps, without validation and checkpoints."""

    def __init__(self) -> None:
        self.total = 0.0
        self._since_restart = 0.0
        self._started: float | None = None

    @property
    def is_running(self) -> bool:
        """Whether time is counted now."""
        return self._started is not None

    def start(self) -> None:
        """Let it run."""
        if self._started is None:
            self._started = time.perf_counter()

    def pause(self) -> None:
        """Stop it."""
        if self._started is not None:
            elapsed = time.perf_counter() - self._started
            self.total += elapsed
            self._since_restart += elapsed
            self._started = None

    def restart(self) -> float:
        """Return the seconds since the last restart, and begin again."""
        self.pause()
        seconds, self._since_restart = self._since_restart, 0.0
        self.start()
        return seconds
