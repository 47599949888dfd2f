"""A data set of Hugging Face, read with their library: from their hub, its cache, or a folder on this machine."""

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lmexp.data.files import NAMES_OF_SPLITS
from lmexp.data.rows import Row
from lmexp.errors import DataError, MissingPackageError

Dataset = dict[str, tuple[str, Any]]
"""Of each split where it stands and its rows."""


def load_dataset(name: str) -> Dataset:
    """Return the splits of a data set; of several that could be train, the first.

    Raises:
        DataError: it cannot be found, read or reached, or has no training split.
    """
    try:
        import datasets
    except ModuleNotFoundError:
        raise MissingPackageError("datasets", "hf") from None
    folder = Path(name).expanduser()
    where, _, variant = (str(folder), "", "") if folder.exists() else name.partition(":")
    shows_progress = datasets.is_progress_bar_enabled()
    try:
        datasets.disable_progress_bars()
        loaded: Any = datasets.load_dataset(where, variant or None)
    except Exception as error:  # whatever a file, a network or a stranger's data set leads to inside the library
        reason = str(error).strip().split("\n")[0] or type(error).__name__
        raise DataError(f"data.dataset={name} cannot be read: {reason}") from None
    finally:
        if shows_progress:
            datasets.enable_progress_bars()
    splits: Dataset = {}
    for theirs, rows in loaded.items():
        ours = next((split for word, split in NAMES_OF_SPLITS.items() if str(theirs).startswith(word)), None)
        if ours is not None:
            splits.setdefault(ours, (f"{name}, {theirs}", rows))
    if "train" not in splits:
        raise DataError(f"data.dataset={name} has no split for training; it has {', '.join(map(str, loaded))}")
    return splits


def rows_of(dataset: Dataset, split: str) -> Iterator[tuple[str, Row]]:
    """Yield where each row stands, and its keys and values; a key without a value is left out."""
    place, rows = dataset[split]
    for number, row in enumerate(rows, start=1):
        yield f"{place}: row {number}", {key: value for key, value in row.items() if value is not None}


def fingerprint_of(dataset: Dataset) -> str:
    """Return 16 hexadecimal digits of all rows."""
    whole = hashlib.blake2b(digest_size=8)
    for split in dataset:
        whole.update(split.encode())
        for _, row in rows_of(dataset, split):
            whole.update(json.dumps(row, sort_keys=True, default=str).encode())
    return whole.hexdigest()
