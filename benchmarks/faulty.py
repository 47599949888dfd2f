"""A plug-in whose trials go wrong in every way, for benchmarks and tests of sweeps: `--plugin benchmarks/faulty.py`."""

import ctypes
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lmexp.config.schedule import ScheduleConfig
from lmexp.config.schema import setting
from lmexp.optim.schedules import Schedule

FAULTS = {3: "raise", 7: "raise", 11: "raise", 5: "memory", 9: "segfault", 13: "hang"}
"""What happens to the trial of a number."""
AT_STEP = 5


@dataclass(kw_only=True)
class FaultyConfig(ScheduleConfig):
    """A constant factor, until something goes wrong."""

    name = "faulty"
    builds = "faulty:Faulty"

    trial: int = setting(0, at_least=0)
    """Which trial this is: it decides the factor, and what goes wrong."""
    is_healthy: bool = setting(False)
    """Nothing goes wrong."""
    clock: str | None = setting(None, identity=False)
    """A file that the time of each first step is added to."""
    seconds_a_step: float = setting(0.0, at_least=0, identity=False)
    """A pause in each step."""


class Faulty(Schedule):
    """Does what FaultyConfig says."""

    def __init__(self, config: FaultyConfig, **runtime: Any) -> None:
        super().__init__(config, **runtime)
        self.is_new = True

    def after_warmup(self, step: int) -> float:
        if self.is_new and self.config.clock:
            with open(self.config.clock, "a", encoding="utf-8") as file:
                file.write(f"{time.time()}\n")
        self.is_new = False
        time.sleep(self.config.seconds_a_step)
        if step == AT_STEP and not self.config.is_healthy:
            go_wrong(FAULTS.get(self.config.trial, ""))
        return 0.2 + 0.04 * (self.config.trial * 7 % 20)


def go_wrong(how: str) -> None:
    """Raise, take ever more memory, crash, or hang."""
    if how == "raise":
        raise ArithmeticError("this trial was told to fail")
    taken = []
    while how == "memory":
        taken.append(bytearray(b"x" * 50_000_000))
        time.sleep(0.01)
    if how == "segfault":
        ctypes.string_at(0)
    while how == "hang":
        time.sleep(60)


PLUGIN = str(Path(__file__).resolve())
