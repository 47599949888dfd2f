"""A finished run trained for longer: its own config, in which only a few keys may change."""

from pathlib import Path
from typing import Any

from hydra.core.override_parser.types import Override
from omegaconf import DictConfig, OmegaConf

from lmexp.config.schema import OPTIONS
from lmexp.config.store import differences, from_yaml
from lmexp.config.train import TrainConfig
from lmexp.errors import Problem

MAY_CHANGE = ("trainer.max_steps", "trainer.max_epochs", "trainer.validate_every_steps")
"""And every key that changes no result: loggers, devices, how often something is written."""


def parent_of(overrides: list[Override]) -> Path | None:
    """Return the run folder that `resume=` names, None when it names none."""
    for override in overrides:
        if override.key_or_group == "resume" and isinstance(value := override.value(), str):
            folder = Path(value).expanduser()
            return folder if (folder / "config.yaml").is_file() else None
    return None


def config_of(parent: Path) -> DictConfig:
    """Return the config of a run, as Hydra's values can be put into it."""
    config = OmegaConf.structured(from_yaml(parent / "config.yaml"))
    OmegaConf.set_struct(config, True)
    return config


def refuse_options(overrides: list[Override]) -> list[Problem]:
    """Return a problem for every option that is chosen: a run for longer keeps its own."""
    chosen = [o for o in overrides if o.key_or_group in OPTIONS or o.key_or_group in ("experiment", "debug")]
    message = f"a run for longer keeps its options; change single keys, such as {MAY_CHANGE[0]}"
    return [Problem(override.key_or_group, message) for override in chosen]


def refuse_changes(parent: Path, config: TrainConfig) -> list[Problem]:
    """Return a problem for every key that would make another experiment of the run."""
    changed: dict[str, Any] = differences(from_yaml(parent / "config.yaml"), config, identity_only=True)
    message = "cannot change when a run is trained for longer; {} may, and what changes no result (logger, devices)"
    return [Problem(key, message.format(", ".join(MAY_CHANGE))) for key in changed if key not in MAY_CHANGE]
