"""How the learning rate moves over a run. Lengths are steps, tokens or a fraction of the run: give one of them."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from lmexp.config.schema import Option, setting


@dataclass(kw_only=True)
class ScheduleConfig(Option):
    """What every schedule has: a linear warm-up."""

    group = "schedule"
    spans: ClassVar[tuple[str, ...]] = ("warmup",)

    warmup_steps: int | None = setting(None, at_least=0)
    """Optimizer steps until the learning rate is at its peak."""
    warmup_tokens: float | None = setting(None, at_least=0)
    """The same, in tokens."""
    warmup_fraction: float | None = setting(None, at_least=0, at_most=1)
    """The same, as a fraction of the run. None of the three: no warm-up."""

    def check(self) -> Iterator[tuple[str, str]]:
        yield from super().check()
        for span in self.spans:
            given = [unit for unit in ("steps", "tokens", "fraction") if getattr(self, f"{span}_{unit}") is not None]
            if len(given) > 1:
                names = " and ".join(f"{span}_{unit}" for unit in given)
                yield f"{span}_{given[0]}", f"{names} say the same thing twice; set all but one to null"


@dataclass(kw_only=True)
class ConstantConfig(ScheduleConfig):
    """Stay at the peak after the warm-up."""

    name = "constant"
    builds = "lmexp.optim.schedules:Constant"


@dataclass(kw_only=True)
class CosineConfig(ScheduleConfig):
    """Fall to final_factor along half a cosine."""

    name = "cosine"
    builds = "lmexp.optim.schedules:Cosine"

    final_factor: float = setting(0.1, at_least=0, at_most=1)
    """Learning rate at the end, as a factor of the peak."""


@dataclass(kw_only=True)
class LinearConfig(ScheduleConfig):
    """Fall to final_factor along a line."""

    name = "linear"
    builds = "lmexp.optim.schedules:Linear"

    final_factor: float = setting(0.0, at_least=0, at_most=1)
    """Learning rate at the end, as a factor of the peak."""


@dataclass(kw_only=True)
class WSDConfig(ScheduleConfig):
    """Warm-up, stable, decay: stay at the peak and fall linearly in the last part (MiniCPM, Hu et al. 2024)."""

    name = "wsd"
    builds = "lmexp.optim.schedules:WSD"
    spans = ("warmup", "decay")

    decay_steps: int | None = setting(None, at_least=0)
    """Optimizer steps of the fall at the end."""
    decay_tokens: float | None = setting(None, at_least=0)
    """The same, in tokens."""
    decay_fraction: float | None = setting(None, at_least=0, at_most=1)
    """The same, as a fraction of the run. None of the three: the last fifth."""
    final_factor: float = setting(0.0, at_least=0, at_most=1)
    """Learning rate at the end, as a factor of the peak."""
