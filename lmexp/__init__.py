"""lmexp: language-model experiments as configs, runs as folders, comparisons with honest statistics.

The public functions are imported when first used, so that `import lmexp` loads neither torch nor hydra.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lmexp.checkpoints import load_run as load_run
    from lmexp.config.compose import compose as compose
    from lmexp.runs.compare import compare as compare
    from lmexp.training import train as train

__version__ = "0.1.0"
__all__ = ["__version__", "compare", "compose", "load_run", "train"]

_HOMES = {
    "compare": "lmexp.runs.compare",
    "compose": "lmexp.config.compose",
    "load_run": "lmexp.checkpoints",
    "train": "lmexp.training",
}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'lmexp' has no attribute '{name}'")
