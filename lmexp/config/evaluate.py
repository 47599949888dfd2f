"""The config of an evaluation: that of the run, with other data if so asked."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from lmexp.config import compose, extend
from lmexp.config.data import Content, DataConfig
from lmexp.config.train import TrainConfig
from lmexp.errors import ConfigError, Problem

HOW_TO_WRITE = tuple(
    f"task.{key}" for key in ("metrics", "lowercase", "bleu_tokenizer", "num_beams", "length_penalty", "max_tokens")
)
"""How texts are written and compared, which changes no weight: an evaluation may do it in another way."""


def compose_evaluation(run: Path, overrides: Sequence[str] = ()) -> TrainConfig:
    """Return the config of a run folder in which the data, and how texts are written, is what a command line says.

    Other data is cut into rows as the run's own was: its context_length and the like stay unless they are given.

    Raises:
        ConfigError: with every problem, each with its dotted key and what is allowed.
    """
    with compose._search_path():
        parsed, problems = compose.parse(overrides)
        composed = extend.config_of(run)
        chosen, values, more = compose._sort_out(parsed)
        problems += more
        for override in (*chosen, *values):
            if override.key_or_group.split(".")[0] != "data" and override.key_or_group not in HOW_TO_WRITE:
                problems.append(Problem(override.key_or_group, "an evaluation takes data=... and data.KEY=... only"))
        chosen = [override for override in chosen if override.key_or_group == "data"]
        if chosen:
            other, more = compose._compose_options("train", chosen)
            problems += more
            if other is not None:
                shape = [field.name for field in dataclasses.fields(DataConfig)]
                is_alike = content_of(other.data) is content_of(composed.data)
                kept = {name: composed.data[name] for name in shape if is_alike}
                composed.data = other.data
                composed.data.update(kept)
        values = [o for o in values if o.key_or_group.startswith("data.") or o.key_or_group in HOW_TO_WRITE]
        problems += [problem for override in values if (problem := compose._apply(override, composed))]
        config, more = compose._checked(composed)
    if problems + more or config is None:
        raise ConfigError(problems + more)
    return config


def content_of(data: DictConfig) -> Content:
    """Return what the examples of a composed data option are."""
    schema: Any = OmegaConf.get_type(data)
    return schema.content
