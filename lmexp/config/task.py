"""What the model learns to do."""

from dataclasses import dataclass

from lmexp.config.schema import Option


@dataclass(kw_only=True)
class TaskConfig(Option):
    """What every task has: nothing yet."""

    group = "task"


@dataclass(kw_only=True)
class PretrainConfig(TaskConfig):
    """Predict the next token of plain text (cross-entropy)."""

    name = "pretrain"
    builds = "lmexp.tasks.pretrain:Pretrain"
