"""The root config of each command that composes one."""

from lmexp.config.corpus import PrepareConfig
from lmexp.config.train import TrainConfig

ROOTS: dict[str, type] = {"train": TrainConfig, "prepare": PrepareConfig}
