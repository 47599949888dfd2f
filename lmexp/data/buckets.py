"""Which examples are used, and which share a batch: those of like length. No torch here.

Shapes: N examples, E texts of one (a pair has two).
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lmexp.config.buckets import BucketsConfig
from lmexp.config.data import TooLong
from lmexp.errors import DataError
from lmexp.tokenization import TokenFile

BUCKET_TOKENS = 4
"""Lengths that differ by less are taken for the same."""


@dataclass(frozen=True)
class Examples:
    """The examples of a split that are used."""

    starts: NDArray[np.int64]
    """Where each text begins in the split; (N, E)."""
    lengths: NDArray[np.int64]
    """Tokens of each text that are read, after what is too long was cut; (N, E)."""
    numbers: NDArray[np.int64]
    """Which example of the split it is; (N)."""
    num_cut: int
    num_dropped: int

    def __len__(self) -> int:
        return len(self.numbers)

    @property
    def longest(self) -> NDArray[np.int64]:
        """Tokens of the longer text of each example: how long a row must be for it."""
        return self.lengths.max(axis=1, initial=0)


def usable(file: TokenFile, config: BucketsConfig) -> Examples:
    """Return the examples of a split that are used; the last token of a target is predicted, and not read."""
    texts = config.texts_per_example
    flat = np.asarray(file.document_starts)
    starts_NE = flat.reshape(-1, texts)
    whole_NE = np.diff(flat, append=len(file.ids)).reshape(-1, texts) - np.arange(texts)
    is_long_N = (whole_NE > config.context_length).any(axis=1)
    is_dropped_N = is_long_N & (config.too_long is TooLong.drop)
    kept_N = ~is_dropped_N
    return Examples(
        starts_NE[kept_N],
        np.minimum(whole_NE, config.context_length)[kept_N],
        np.flatnonzero(kept_N),
        num_cut=int((is_long_N & kept_N).sum()),
        num_dropped=int(is_dropped_N.sum()),
    )


def require_learnable(file: TokenFile, config: BucketsConfig, split: str) -> None:
    """Raise unless a split has an example that can be used.

    Raises:
        DataError: it has none.
    """
    examples = usable(file, config)
    if not len(examples):
        why = f": all {examples.num_dropped:,} are too long; raise data.context_length" if examples.num_dropped else ""
        raise DataError(f"the {split} split has no example to learn from{why}")


def plan(examples: Examples, config: BucketsConfig, random: np.random.Generator) -> list[NDArray[np.int64]]:
    """Return the examples of each batch of an epoch: of like length, in an order that is drawn.

    How many batches there are, and how large each is, depends on the lengths alone.
    """
    room_N = -(-examples.longest // BUCKET_TOKENS) * BUCKET_TOKENS
    order = np.lexsort((random.permutation(len(examples)), room_N))
    batches, first = [], 0
    for last in _ends(room_N[order], config):
        batches.append(order[first:last])
        first = last
    return [batches[number] for number in random.permutation(len(batches))]


def _ends(room_N: NDArray[np.int64], config: BucketsConfig) -> Iterator[int]:
    """Yield where each batch ends in examples that are sorted by the room they need."""
    if config.batch_tokens is None:
        yield from range(config.rows, len(room_N), config.rows)
    else:
        first = 0
        for number, room in enumerate(np.minimum(room_N, config.context_length).tolist()):
            if (number + 1 - first) * room > config.batch_tokens:
                yield number
                first = number
    if len(room_N):
        yield len(room_N)


def summary(file: TokenFile, config: BucketsConfig) -> dict[str, int | float]:
    """Return how many examples of a split are used, cut and left out, and how full its batches are."""
    examples = usable(file, config)
    batches = plan(examples, config, np.random.default_rng(0))
    texts = sum(len(batch) * int(examples.lengths[batch].max(axis=0).sum()) for batch in batches)
    return {
        "used": len(examples),
        "cut": examples.num_cut,
        "too_long": examples.num_dropped,
        "batches": len(batches),
        "filled": float(examples.lengths.sum() / max(1, texts)),
    }


def remarks(split: str, counts: dict[str, int | float], config: BucketsConfig) -> Iterator[str]:
    """Yield what a person should know about the examples of a split."""
    fits = f"longer than data.context_length={config.context_length}"
    if counts["cut"]:
        yield f"{split}: {counts['cut']:,} of {counts['used']:,} examples are {fits} and are cut"
    if counts["too_long"]:
        yield f"{split}: {counts['too_long']:,} examples are {fits} and are left out"
