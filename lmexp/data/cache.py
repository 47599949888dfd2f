"""Where tokenized text is kept between runs."""

import os
from pathlib import Path

from lmexp.config.data import DataConfig


def cache_folder(config: DataConfig) -> Path:
    """Return data.cache_dir, or $LMEXP_CACHE, or ~/.cache/lmexp."""
    folder = config.cache_dir or os.environ.get("LMEXP_CACHE")
    if folder:
        return Path(folder).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "lmexp"
