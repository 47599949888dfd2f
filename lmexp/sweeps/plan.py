"""What a sweep is to do, read off its command line and checked before anything starts."""

import hashlib
import itertools
import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from importlib.util import find_spec
from typing import Any

from hydra.core.override_parser.types import IntervalSweep, Override, RangeSweep
from omegaconf import DictConfig, OmegaConf

from lmexp.config.check import problems_of
from lmexp.config.compose import compose_trials, hydra_settings, parse, text_of, values_of
from lmexp.config.extend import with_source
from lmexp.config.sweep import PRUNERS, SAMPLERS, SearchSettings, SweepConfig, take_settings
from lmexp.config.train import TrainConfig
from lmexp.errors import ConfigError, MissingPackageError, Problem
from lmexp.sweeps.check import problems_of_conditions, problems_of_plan

GRID, SEARCH = "hydra/sweeper=lmexp", "hydra/sweeper=optuna"
DEFAULT_TRIALS = 20


@dataclass(frozen=True)
class Dimension:
    """A key of the space: the values it takes as a command line has them, or an interval of numbers."""

    key: str
    values: tuple[str, ...] = ()
    low: float | None = None
    high: float | None = None
    step: float | None = None
    is_log: bool = False
    is_integer: bool = False

    @property
    def is_number(self) -> bool:
        """Whether a search may take any number between two ends."""
        return self.low is not None

    @property
    def grid(self) -> tuple[Any, ...]:
        """Every value: texts, or the numbers of a range."""
        if self.low is None or self.high is None:
            return self.values
        step = self.step or 1
        numbers = [self.low + place * step for place in range(int((self.high - self.low) / step + 1e-9) + 1)]
        return tuple(int(number) if self.is_integer else number for number in numbers)


@dataclass(frozen=True)
class Search:
    """How trials are chosen one after the other."""

    n_trials: int
    sampler: SearchSettings
    pruner: SearchSettings


@dataclass(frozen=True)
class Plan:
    """A checked command line of `lmexp train -m`."""

    fixed: tuple[str, ...]
    dimensions: tuple[Dimension, ...]
    seeds: tuple[str, ...]
    """Of a search: every trial is run with each of them, and its value is their mean."""
    settings: SweepConfig
    search: Search | None
    launcher: dict[str, Any]
    hydra: tuple[str, ...]
    """The overrides that are for Hydra itself."""
    metrics: tuple[str, ...]
    project: str
    output_dir: str

    @property
    def space(self) -> dict[str, Any]:
        """What makes the sweep: the same space is the same sweep."""
        space = {
            "fixed": sorted(self.fixed),
            "dimensions": [asdict(dimension) for dimension in self.dimensions],
            "seeds": list(self.seeds),
            "when": dict(self.settings.when),
            "metrics": list(self.metrics),
        }
        if self.search:
            space |= {"sampler": asdict(self.search.sampler), "pruner": asdict(self.search.pruner)}
        return json.loads(json.dumps(space))

    @property
    def name(self) -> str:
        """What the sweep is called."""
        digest = hashlib.blake2b(json.dumps(self.space, sort_keys=True).encode(), digest_size=4).hexdigest()
        return self.settings.name or f"sweep-{digest}"

    def grid(self) -> list[list[str]]:
        """Return the overrides of every combination, in the order of Hydra's own sweeper."""
        choices = [[f"{dimension.key}={value}" for value in dimension.values] for dimension in self.dimensions]
        kept = (tuple(self.applicable(list(trial))) for trial in itertools.product(*choices))
        return [list(trial) for trial in dict.fromkeys(kept)]

    def applicable(self, trial: list[str]) -> list[str]:
        """Return the overrides of a trial without those whose condition (`sweep.when`) does not hold."""
        return applicable(trial, (*self.fixed, *trial), self.settings.when)

    @cached_property
    def num_workers(self) -> int:
        """Trials at once."""
        says = self.launcher.get("n_jobs") or self.launcher.get("array_parallelism") or 1
        if says < 0:
            from lmexp.training.start import usable_cores

            says = usable_cores()
        trials = self.search.n_trials if self.search else len(self.grid())
        return max(1, min(self.settings.workers or says, trials))

    @property
    def shares_machine(self) -> bool:
        """Whether the workers run side by side on one machine, whose cores they divide."""
        return "Slurm" not in str(self.launcher.get("_target_"))


def applicable(trial: Sequence[str], given: Sequence[str], when: dict[str, str]) -> list[str]:
    """Return the overrides of a trial whose conditions hold.

    Example:
        >>> applicable(["model=lstm", "model.num_heads=4"], ["model=lstm"], {"model.num_heads": "model=transformer"})
        ['model=lstm']
    """
    chosen = dict(text.partition("=")[::2] for text in given)

    def holds(text: str) -> bool:
        group, _, options = when.get(text.partition("=")[0], "").partition("=")
        return not group or chosen.get(group) in options.split("|")

    return [text for text in trial if holds(text)]


def read_plan(overrides: Sequence[str]) -> Plan:
    """Return what a command line asks for.

    Raises:
        ConfigError: with every problem, before any trial.
    """
    parsed, problems = parse(with_source(overrides))
    settings, rest, more = take_settings(parsed)
    problems += more
    own = [override for override in rest if not override.key_or_group.startswith(("hydra.", "hydra/"))]
    hydra = [text_of(override) for override in rest if override not in own]
    own = list({override.key_or_group: override for override in own}.values())  # of a key the last one counts
    is_search = any(isinstance(override.value(), IntervalSweep) for override in own)
    sweeper = _sweeper(hydra, has_interval=is_search)
    hydra, is_search = list(dict.fromkeys([*hydra, sweeper])), sweeper == SEARCH
    dimensions, fixed, seeds = _space(own, is_search)
    when = settings.when if settings else {}
    problems += problems_of_conditions(when, dimensions)
    texts = [text_of(override) for override in own]

    def keep(trial: list[str]) -> list[str]:
        return applicable(trial, trial, when)

    trials: list[TrainConfig] = []
    try:
        trials = compose_trials("train", texts, search=is_search, keep=keep)
    except ConfigError as error:
        problems += error.problems
    if problems or settings is None:
        raise ConfigError(list(dict.fromkeys(problems)))
    composed = hydra_settings(hydra)
    launcher: Any = OmegaConf.to_container(composed.launcher)
    plan = Plan(
        fixed=tuple(fixed),
        dimensions=tuple(dimensions),
        seeds=tuple(seeds),
        settings=settings,
        search=_search(composed.sweeper, dimensions) if is_search else None,
        launcher=launcher,
        hydra=tuple(hydra),
        metrics=tuple(settings.metric or [trials[0].task.metric_names[0]]),
        project=trials[0].project,
        output_dir=trials[0].output_dir,
    )
    problems = list(problems_of_plan(plan, trials))
    if problems:
        raise ConfigError(problems)
    return plan


def _sweeper(hydra: Sequence[str], *, has_interval: bool) -> str:
    """Return the override that chooses the sweeper: the one given, or a search where there is an interval.

    Raises:
        ConfigError: it is none of ours, or a grid is to take an interval.
    """
    given = [text for text in hydra if text.startswith("hydra/sweeper=")]
    if not given:
        return SEARCH if has_interval else GRID
    if given[-1] not in (SEARCH, GRID):
        message = f"{given[-1]}: take lmexp (every combination; the default) or optuna (a search)"
        raise ConfigError([Problem("", message)])
    if has_interval and given[-1] == GRID:
        raise ConfigError([Problem("hydra/sweeper", "an interval is searched by optuna; leave hydra/sweeper out")])
    return given[-1]


def _space(overrides: Sequence[Override], is_search: bool) -> tuple[list[Dimension], list[str], list[str]]:
    """Return what varies, what does not, and the seeds of each trial of a search."""
    dimensions: list[Dimension] = []
    fixed: list[str] = []
    seeds: list[str] = []
    for override in overrides:
        key, value = override.get_key_element(), override.value()
        if not override.is_sweep_override():
            fixed.append(text_of(override))
        elif isinstance(value, IntervalSweep):
            ends = (value.start, value.end)
            is_integer = all(isinstance(end, int) for end in ends)
            low, high = float(ends[0] or 0), float(ends[1] or 0)
            dimensions.append(Dimension(key, (), low, high, None, "log" in value.tags, is_integer))
        elif is_search and key == "seed":
            seeds = values_of(override)
        elif is_search and isinstance(value, RangeSweep) and not value.shuffle:
            numbers = [float(text) for text in values_of(override)]
            is_integer = isinstance(value.start, int) and isinstance(value.step, int)
            if numbers:
                low, high = min(numbers), max(numbers)
                dimensions.append(Dimension(key, (), low, high, abs(value.step), "log" in value.tags, is_integer))
        else:
            dimensions.append(Dimension(key, tuple(values_of(override))))
    return dimensions, fixed, seeds


def _search(composed: DictConfig, dimensions: Sequence[Dimension]) -> Search:
    """Return the settings of the search; of a grid there are not more trials than combinations."""
    problems: list[Problem] = []
    parts: list[Any] = []
    for name, options in (("sampler", SAMPLERS), ("pruner", PRUNERS)):
        values: Any = OmegaConf.to_container(composed[name])
        part = options[values["name"]](**values)
        problems += problems_of(part, f"hydra.sweeper.{name}.")
        parts.append(part)
    count = composed.n_trials
    if count is not None and (not isinstance(count, int) or count < 1):
        problems.append(Problem("hydra.sweeper.n_trials", f"must be a whole number, at least 1, not {count}"))
    if problems:
        raise ConfigError(problems)
    if find_spec("optuna") is None:
        raise MissingPackageError("optuna", "sweep")
    if parts[0].name == "grid":
        combinations = math.prod(len(dimension.grid) for dimension in dimensions)
        return Search(min(count or combinations, combinations), *parts)
    return Search(count or DEFAULT_TRIALS, *parts)
