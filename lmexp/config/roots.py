"""The root config of each command that composes one."""

from lmexp.config.corpus import PrepareConfig
from lmexp.config.schema import Settings
from lmexp.config.train import TrainConfig

ROOTS: dict[str, type[Settings]] = {"train": TrainConfig, "prepare": PrepareConfig}
