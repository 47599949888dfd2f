"""How many examples of a split are used, cut and left out, whatever kind they are. No torch here."""

from collections.abc import Iterator
from types import ModuleType

from lmexp.config.buckets import BucketsConfig
from lmexp.config.chat import ConversationsConfig
from lmexp.config.data import DataConfig
from lmexp.data import buckets, packing
from lmexp.tokenization import TokenFile

Counts = dict[str, int | float]


def has_examples(data: DataConfig) -> bool:
    """Return whether the data is made of examples, and not of running text."""
    return isinstance(data, ConversationsConfig | BucketsConfig)


def require_some(file: TokenFile, data: DataConfig, split: str) -> None:
    """Raise unless a split has an example with something to learn in it.

    Raises:
        DataError: it has none, saying why.
    """
    _of(data).require_learnable(file, data, split)


def summary(file: TokenFile, data: DataConfig) -> Counts:
    """Return how many examples of a split are used, cut and left out, and how full its rows are."""
    counts: Counts = _of(data).summary(file, data)
    return counts


def remarks(split: str, counts: Counts, data: DataConfig) -> Iterator[str]:
    """Yield what a person should know about the examples of a split."""
    yield from _of(data).remarks(split, counts, data)


def _of(data: DataConfig) -> ModuleType:
    return packing if isinstance(data, ConversationsConfig) else buckets
