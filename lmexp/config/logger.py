"""Where metrics go beside the run folder, which always has them in metrics.jsonl."""

from dataclasses import dataclass
from enum import Enum

from lmexp.config.schema import Option, setting


class WandbMode(Enum):
    """How W&B works."""

    online = "online"
    offline = "offline"
    disabled = "disabled"


@dataclass(kw_only=True)
class LoggerConfig(Option):
    """What every logger has: nothing."""

    group = "logger"


@dataclass(kw_only=True)
class WandbConfig(LoggerConfig):
    """Weights & Biases; offline by default, `wandb sync` uploads later."""

    name = "wandb"
    builds = "lmexp.training.loggers:WandbMirror"

    mode: WandbMode | None = setting(None, identity=False)
    """online, offline or disabled; null takes $WANDB_MODE (also from a .env file), or offline."""
    project: str | None = setting(None, identity=False)
    """W&B project; null takes $WANDB_PROJECT or the root key `project`."""
    entity: str | None = setting(None, identity=False)
    """W&B user or team; null takes $WANDB_ENTITY or your own."""
    run_group: str | None = setting(None, identity=False)
    """Runs to be shown together; null groups what differs by the seed only."""
    tags: list[str] = setting(default_factory=list, identity=False)
    """Words to find the run by."""
    notes: str | None = setting(None, identity=False)
    """A sentence about the run."""


@dataclass(kw_only=True)
class TensorBoardConfig(LoggerConfig):
    """TensorBoard event files in the run folder (pip install 'lmexp[tensorboard]')."""

    name = "tensorboard"
    builds = "lmexp.training.loggers:build_tensorboard"


@dataclass(kw_only=True)
class NoLoggerConfig(LoggerConfig):
    """Only the run folder."""

    name = "none"
    builds = "lmexp.training.loggers:build_no_logger"
