"""What can be chosen: one dataclass file per group, composed by Hydra, checked before anything heavy starts.

`compose.compose` turns a command line into a checked TrainConfig; `store` writes it to a run folder, reads it back, and
makes the hash that names the folder; `explain` says what a key means. Nothing here imports torch, and hydra is imported
only where something is composed.
"""

from lmexp.config.schema import Option as Option
from lmexp.config.schema import build as build
from lmexp.config.schema import setting as setting
from lmexp.config.train import TrainConfig as TrainConfig
