"""Configs that begin from a run: one trained for longer (a few keys may change), one that fine-tunes its weights."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf

from lmexp.config.model import ModelConfig, OwnModelConfig
from lmexp.config.schema import OPTIONS
from lmexp.config.store import differences, from_yaml, to_dict
from lmexp.config.train import TrainConfig
from lmexp.errors import ConfigError, Problem

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


NOT_TAKEN_OVER = ("name", "lora", "frozen", "loss")
"""Of a model that another run begins with: how it was trained; adapters are merged into its weights."""


def with_source(overrides: Sequence[str]) -> list[str]:
    """Return a command line with the model and the tokenizer of `init_from=FOLDER` before what it says itself.

    Raises:
        ConfigError: there is no run in the folder, or another model or tokenizer is chosen beside it.
    """
    if not any("init_from" in text for text in overrides):  # most command lines: parsing takes its time
        return list(overrides)
    parsed = [override for text in overrides for override in _parsed(text)]
    sources = [override.value() for override in parsed if override.key_or_group == "init_from"]
    if not sources or sources[-1] is None:
        return list(overrides)
    if not isinstance(sources[-1], str):
        raise ConfigError([Problem("init_from", "takes one run; give each its own command")])
    folder = Path(sources[-1]).expanduser()
    if not (folder / "config.yaml").is_file():
        raise ConfigError([Problem("init_from", f"no run is there: {folder}")])
    fixed = [o for o in parsed if o.key_or_group == "model" or o.key_or_group.split(".")[0] == "tokenizer"]
    if fixed:
        message = f"comes from {folder}, which init_from names; leave it out (model.dropout and the like may change)"
        raise ConfigError([Problem(override.key_or_group, message) for override in fixed])
    return [*_lines_of(folder), *overrides]


def _lines_of(source: Path) -> list[str]:
    """Return the overrides that give a new run the model and the tokenizer of another."""
    config = from_yaml(source / "config.yaml")
    model: ModelConfig = config.model
    if isinstance(model, OwnModelConfig) and model.has_position_table and getattr(model, "max_positions", 0) is None:
        model = replace(model, max_positions=config.data.context_length)  # type: ignore[call-arg]
    values = {key: value for key, value in to_dict(model).items() if key not in NOT_TAKEN_OVER}
    lines = [f"model.{key}={json.dumps(value)}" for key, value in values.items()]
    path = json.dumps(str(source / "tokenizer.json"), ensure_ascii=False)
    return [f"model={model.name}", *lines, "tokenizer=file", f"tokenizer.path={path}"]


def _parsed(text: str) -> list[Override]:
    try:
        return OverridesParser.create().parse_overrides([text])
    except HydraException:  # it is said where all of them are parsed
        return []
