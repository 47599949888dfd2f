"""Where tokenized text is kept between runs."""

import os
import uuid
from pathlib import Path

from lmexp.config.data import DataConfig


def cache_folder(config: DataConfig) -> Path:
    """Return data.cache_dir, or $LMEXP_CACHE, or ~/.cache/lmexp."""
    folder = config.cache_dir or os.environ.get("LMEXP_CACHE")
    if folder:
        return Path(folder).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "lmexp"


def part_of(path: Path) -> Path:
    """Return a new name beside a path, to write under until all is there.

    Process numbers would not do: containers that share a cache have the same ones.
    """
    return path.with_name(f"{path.name}.{uuid.uuid4().hex[:12]}.part")
