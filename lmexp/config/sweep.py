"""What belongs to a sweep and not to its runs: `sweep.KEY=value` on the command line of `lmexp train -m`, and the
settings of the search behind `hydra/sweeper=optuna`.
"""

import difflib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from enum import Enum
from typing import Any

from hydra.core.override_parser.types import Override
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from lmexp.config.check import describe_type, problems_of
from lmexp.config.schema import Settings, setting
from lmexp.errors import Problem

PREFIX = "sweep."


class Better(Enum):
    """Which way a metric is better."""

    lower = "lower"
    higher = "higher"


@dataclass(kw_only=True)
class SweepConfig(Settings):
    """How trials are run and told apart."""

    name: str | None = setting(None)
    """What the sweep is called; null makes it from the command line, so that the same command is the same sweep."""
    metric: list[str] = setting(default_factory=list)
    """What says which trial is best, such as val/accuracy; [] takes the first one of the task. Several, such as
    [val/loss_nats,parameters], are searched for the best compromises (hydra/sweeper=optuna)."""
    better: Better | None = setting(None)
    """lower or higher, for metrics of your own; null knows it from the name."""
    retry: bool = setting(False)
    """Run failed trials again, from their last checkpoint where they have one."""
    timeout_seconds: float | None = setting(None, above=0)
    """A trial that takes longer is ended and counts as failed; null waits for ever."""
    max_memory_gb: float | None = setting(None, above=0)
    """A trial that takes more memory (10^9 bytes, of all its processes) is ended and counts as failed; null leaves it
    to the system."""
    workers: int | None = setting(None, at_least=1)
    """Trials at once. null takes what the launcher says (hydra.launcher.n_jobs, hydra.launcher.array_parallelism), or
    one."""
    when: dict[str, str] = setting(default_factory=dict)
    """Keys that only some trials have: {model.num_heads: {model: transformer}} varies the heads of transformers only;
    {model: [transformer,bert]} means either."""

    def check(self) -> Iterator[tuple[str, str]]:
        yield from super().check()
        if self.name is not None and (not self.name.strip(". ") or set(self.name) & set('/\\\0:*?"<>|')):
            yield "name", f"'{self.name}' cannot be the name of a folder"
        if self.better is not None and len(self.metric) > 1:
            yield "better", "is for one metric; take metrics whose names say which way is better"


@dataclass(kw_only=True)
class SearchSettings(Settings):
    """A part of Optuna by its name."""

    name: str = ""
    """Which one it is."""


@dataclass(kw_only=True)
class TPEConfig(SearchSettings):
    """Tree-structured Parzen estimators: learns where good trials lie (Optuna's default)."""

    seed: int = setting(0, at_least=0)
    """Another seed, another order of questions."""
    n_startup_trials: int = setting(10, at_least=1)
    """Random trials before it has learned enough."""
    multivariate: bool = setting(False)
    """Learn how keys go together, too."""


@dataclass(kw_only=True)
class RandomConfig(SearchSettings):
    """Independent draws."""

    seed: int = setting(0, at_least=0)
    """Another seed, another order of questions."""


@dataclass(kw_only=True)
class CmaEsConfig(SearchSettings):
    """Covariance matrix adaptation, for several numbers at once (pip install cmaes)."""

    seed: int = setting(0, at_least=0)
    """Another seed, another order of questions."""
    n_startup_trials: int = setting(1, at_least=1)
    """Independent trials before the first generation."""


@dataclass(kw_only=True)
class GridConfig(SearchSettings):
    """Every combination once, in an order that the seed draws: with a pruner."""

    seed: int = setting(0, at_least=0)
    """Another seed, another order of questions."""


@dataclass(kw_only=True)
class NoPrunerConfig(SearchSettings):
    """Every trial runs to its end."""


@dataclass(kw_only=True)
class MedianConfig(SearchSettings):
    """Ends a trial that is worse than the median of the others at the same validation."""

    n_startup_trials: int = setting(5, at_least=0)
    """Trials that are over before any is ended."""
    n_warmup_steps: int = setting(0, at_least=0)
    """Validations of a trial before it can be ended."""


@dataclass(kw_only=True)
class ASHAConfig(SearchSettings):
    """Successive halving (ASHA, Li et al. 2018): of those that reach a rung the best 1 / reduction_factor go on. Rungs
    are at validations min_resource x reduction_factor^k.
    """

    min_resource: int = setting(1, at_least=1)
    """Validations before the first rung."""
    reduction_factor: int = setting(4, at_least=2)
    """One of so many goes on from a rung."""
    min_early_stopping_rate: int = setting(0, at_least=0)
    """So many rungs from below are left out."""


@dataclass(kw_only=True)
class HyperbandConfig(SearchSettings):
    """Several halvings beside each other, from bold to cautious (Li et al. 2017)."""

    min_resource: int = setting(1, at_least=1)
    """Validations before the first rung."""
    reduction_factor: int = setting(3, at_least=2)
    """One of so many goes on from a rung."""


SAMPLERS: dict[str, type[SearchSettings]] = {
    "tpe": TPEConfig,
    "random": RandomConfig,
    "cmaes": CmaEsConfig,
    "grid": GridConfig,
}
PRUNERS: dict[str, type[SearchSettings]] = {
    "none": NoPrunerConfig,
    "median": MedianConfig,
    "asha": ASHAConfig,
    "hyperband": HyperbandConfig,
}


def take_settings(parsed: Sequence[Override]) -> tuple[SweepConfig | None, list[Override], list[Problem]]:
    """Return the settings of the sweep, the overrides that are for its runs, and what is wrong with the former."""
    composed, rest, problems = OmegaConf.structured(SweepConfig), [], []
    names = {field.name: field.type for field in fields(SweepConfig)}
    for override in parsed:
        key = override.key_or_group
        if not key.startswith(PREFIX):
            rest.append(override)
            continue
        name, value = key.removeprefix(PREFIX), override.value()
        if name not in names:
            near = difflib.get_close_matches(name, names, 1)
            hint = f"did you mean {PREFIX}{near[0]}?" if near else f"a sweep has {', '.join(names)}"
            problems.append(Problem(key, f"there is no such key; {hint}"))
        elif override.is_sweep_override() and name != "metric":
            problems.append(Problem(key, "belongs to the sweep as a whole and takes one value"))
        else:
            problems += _put(composed, name, _plain(override, value), names[name])
    if problems:
        return None, rest, problems
    config: Any = OmegaConf.to_object(composed)
    return config, rest, list(problems_of(config, PREFIX))


def _plain(override: Override, value: Any) -> Any:
    """Return a value as YAML has it; one metric, or several with commas, are a list."""
    if override.key_or_group == f"{PREFIX}metric":
        values = value.list if override.is_sweep_override() else value if isinstance(value, list) else [value]
        return [str(item) for item in values if item is not None]
    if override.key_or_group == f"{PREFIX}when" and isinstance(value, dict):
        return {str(key): _condition(item) for key, item in value.items()}
    return str(value) if hasattr(value, "quote") else value


def _condition(item: Any) -> Any:
    """Return {model: [a, b]} as "model=a|b"; anything else as it is, which has the wrong type then."""
    if not isinstance(item, dict) or len(item) != 1:
        return item if not isinstance(item, str) else None
    (group, options), *_ = item.items()
    return f"{group}={'|'.join(map(str, options if isinstance(options, list) else [options]))}"


def _put(composed: Any, name: str, value: Any, annotation: Any) -> list[Problem]:
    try:
        OmegaConf.update(composed, name, value, merge=False)
        return []
    except OmegaConfBaseException:
        return [Problem(PREFIX + name, f"must be {describe_type(annotation)}, not {value}")]
