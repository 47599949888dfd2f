"""The factor on the learning rate at each optimizer step: a warm-up, and one shape after it."""

import math
from abc import ABC, abstractmethod
from typing import Any

from lmexp.config.schedule import ScheduleConfig


class Schedule(ABC):
    """Factor of the peak learning rate, as a function of the steps done."""

    def __init__(self, config: ScheduleConfig, *, max_steps: int, tokens_per_step: int) -> None:
        self.config: Any = config
        self.max_steps, self.tokens_per_step = max_steps, tokens_per_step
        self.warmup_steps = self.steps("warmup", default=0)

    def __call__(self, step: int) -> float:
        """Return the factor for step `step` (0 is the first)."""
        if step < self.warmup_steps:
            return (step + 1) / (self.warmup_steps + 1)
        return self.after_warmup(step)

    @abstractmethod
    def after_warmup(self, step: int) -> float:
        """Return the factor once the warm-up is over."""

    def steps(self, span: str, *, default: int) -> int:
        """Return the length of a span in steps, whichever unit it is given in."""
        tokens, fraction = getattr(self.config, f"{span}_tokens"), getattr(self.config, f"{span}_fraction")
        if tokens is not None:
            return round(tokens / self.tokens_per_step)
        if fraction is not None:
            return round(fraction * self.max_steps)
        steps = getattr(self.config, f"{span}_steps")
        return default if steps is None else steps

    def progress(self, step: int) -> float:
        """Return how much of the time after the warm-up is over, from 0 to 1."""
        return min(1.0, (step - self.warmup_steps) / max(1, self.max_steps - self.warmup_steps))


class Constant(Schedule):
    """1 to the end."""

    def after_warmup(self, step: int) -> float:
        return 1.0


class Cosine(Schedule):
    """Half a cosine from 1 to final_factor.

    Source: Loshchilov and Hutter 2017, equation 5, one period.
    """

    def after_warmup(self, step: int) -> float:
        final = self.config.final_factor
        return final + (1 - final) * 0.5 * (1 + math.cos(math.pi * self.progress(step)))


class Linear(Schedule):
    """A line from 1 to final_factor."""

    def after_warmup(self, step: int) -> float:
        return 1 - (1 - self.config.final_factor) * self.progress(step)


class WSD(Schedule):
    """1, and a line to final_factor in the last steps.

    Source: Hu et al. 2024 (MiniCPM), section 4; the linear decay of Hägele et al. 2024.
    """

    def after_warmup(self, step: int) -> float:
        decay_steps = min(self.steps("decay", default=round(self.max_steps / 5)), self.max_steps - self.warmup_steps)
        done = step - (self.max_steps - decay_steps)
        return 1.0 if done <= 0 else 1 - (1 - self.config.final_factor) * min(1.0, done / max(1, decay_steps))
