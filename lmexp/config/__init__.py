"""What can be chosen: one dataclass file per group, composed by Hydra, checked before anything heavy starts.

`compose` turns a command line into a checked TrainConfig; `to_yaml` and `from_yaml` store it in a run folder and read
it back; `identity_hash` names the folder; `explain` says what a key means. Nothing here imports torch.
"""

from lmexp.config.compose import compose as compose
from lmexp.config.schema import Option as Option
from lmexp.config.schema import build as build
from lmexp.config.schema import setting as setting
from lmexp.config.train import TrainConfig as TrainConfig
