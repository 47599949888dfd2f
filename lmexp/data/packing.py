"""Conversations into rows: several to a row, as full as can be, without seeing each other.

An example of n ids gives n - 1 pairs of a token and the next one, which is what takes room in a row. Rows are made anew
for each epoch from (seed, epoch), so that batch k is a function of (seed, k) alone (design rule 3).
Shapes: B rows of this rank, T tokens.
"""

from bisect import bisect_left
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray

from lmexp.config.chat import ConversationsConfig, TooLong
from lmexp.config.data import DataConfig
from lmexp.data.batches import IGNORE, Batch
from lmexp.errors import DataError
from lmexp.tokenization import TokenFile

Bin = list[int]
"""The examples of a row."""


@dataclass(frozen=True)
class Examples:
    """The examples of a split that have something to learn in a row."""

    starts: NDArray[np.int64]
    lengths: NDArray[np.int64]
    """Pairs of a token and the next one, after what is too long was cut."""
    num_learned: NDArray[np.int64]
    num_cut: int
    num_dropped: int
    """Too long."""
    num_empty: int
    """Nothing to learn, or nothing after the cut."""


def usable(file: TokenFile, config: DataConfig) -> Examples:
    """Return the examples of a split that are trained on, and how many are not."""
    assert file.is_learned is not None
    assert isinstance(config, ConversationsConfig)
    starts = np.asarray(file.document_starts)
    whole = np.diff(starts, append=len(file.ids)) - 1
    is_long = whole > config.context_length
    lengths = np.minimum(whole, config.context_length)
    learned_before = np.concatenate(([0], np.cumsum(file.is_learned)))
    num_learned = learned_before[starts + 1 + lengths] - learned_before[starts + 1]  # nothing foretells the first token
    is_dropped = is_long & (config.too_long is TooLong.drop)
    is_empty = ~is_dropped & (num_learned == 0)
    kept = ~is_dropped & ~is_empty
    return Examples(
        starts[kept],
        lengths[kept],
        num_learned[kept],
        num_cut=int((is_long & kept).sum()),
        num_dropped=int(is_dropped.sum()),
        num_empty=int(is_empty.sum()),
    )


def require_learnable(file: TokenFile, config: DataConfig, split: str) -> None:
    """Raise unless a split has an example with something to learn in it.

    Raises:
        DataError: it has none, saying why.
    """
    examples = usable(file, config)
    if len(examples.starts):
        return
    if examples.num_dropped:
        longest = int(np.diff(file.document_starts, append=len(file.ids)).min()) - 1
        reason = f"all {examples.num_dropped:,} are too long; data.context_length={longest} takes the shortest"
    else:
        reason = f"{examples.num_empty:,} have no answer to learn in the first {config.context_length} tokens"
    raise DataError(f"the {split} split has no conversation to learn from: {reason}")


def pack(lengths: NDArray[np.int64], room: int) -> list[Bin]:
    """Return bins of items that fit into `room` together: best fit, the longest first.

    The number of bins, and what each is filled to, depend on the lengths alone and not on their order.
    """
    bins: list[Bin] = []
    spaces: list[tuple[int, int]] = []  # what is left in a bin, and its number; sorted
    for item in np.argsort(-lengths, kind="stable").tolist():
        length = int(lengths[item])
        place = bisect_left(spaces, (length, -1))
        if place == len(spaces):
            bins.append([item])
            left, number = room - length, len(bins) - 1
        else:
            space, number = spaces.pop(place)
            bins[number].append(item)
            left = space - length
        spaces.insert(bisect_left(spaces, (left, number)), (left, number))
    return bins


class ExampleBatches:
    """Rows of examples in an order that is drawn anew for each epoch."""

    def __init__(
        self,
        file: TokenFile,
        config: ConversationsConfig,
        *,
        seed: int,
        accumulate: int,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        require_learnable(file, config, "train")
        self.file, self.config, self.seed, self.accumulate = file, config, seed, accumulate
        self.examples = usable(file, config)
        self.rows_per_epoch = len(self._draw_epoch(0)[0])
        self.batches_per_epoch = self.rows_per_epoch / config.rows
        self.world_size = world_size
        rows = config.rows // world_size
        self.rows_of_rank = slice(rank * rows, (rank + 1) * rows)
        self._epoch = lru_cache(maxsize=2)(self._draw_epoch)

    def __getitem__(self, micro_step: int) -> Batch:
        bins = self._bins(micro_step)
        first = micro_step - micro_step % self.accumulate
        in_step = [self._bins(k) for k in range(first, first + self.accumulate)]
        learned = sum(int(self.examples.num_learned[row].sum()) for rows in in_step for row in rows)
        width = self.config.context_length if self.config.packing else _longest(self.examples, bins)
        batch = rows_of(self.file, self.examples, bins[self.rows_of_rank], width)
        batch["mean_learned"] = learned / (self.accumulate * self.world_size)
        return batch | {"micro_step": micro_step}

    def _bins(self, micro_step: int) -> list[Bin]:
        wrapped = micro_step % self.config.limit_batches if self.config.limit_batches else micro_step
        positions = range(wrapped * self.config.rows, (wrapped + 1) * self.config.rows)
        bins = []
        for position in positions:
            epoch, row = divmod(position, self.rows_per_epoch)
            packed, order = self._epoch(epoch)
            bins.append(packed[order[row]])
        return bins

    def _draw_epoch(self, epoch: int) -> tuple[list[Bin], NDArray[np.int64]]:
        """Return the rows of an epoch, and in which order they come."""
        random = np.random.default_rng([self.seed, epoch])
        shuffled = random.permutation(len(self.examples.starts))
        bins = _bins_of(self.examples.lengths[shuffled], self.config)
        return [shuffled[one].tolist() for one in bins], random.permutation(len(bins))


class ExampleEvaluationBatches:
    """All examples of a split, each learned token once, whatever the batch size and the ranks."""

    def __init__(self, file: TokenFile, config: ConversationsConfig, *, rank: int = 0, world_size: int = 1) -> None:
        self.file, self.config, self.examples = file, config, usable(file, config)
        bins = _bins_of(self.examples.lengths, config)[rank::world_size]
        rows = config.evaluation_rows
        self.batches = [bins[i : i + rows] for i in range(0, len(bins), rows)]

    def __len__(self) -> int:
        return len(self.batches)

    def __getitem__(self, index: int) -> Batch:
        bins = self.batches[index]
        width = self.config.context_length if self.config.packing else _longest(self.examples, bins)
        return rows_of(self.file, self.examples, bins, width)


def rows_of(file: TokenFile, examples: Examples, bins: list[Bin], width: int) -> Batch:
    """Return rows in which examples stand side by side; what is left of a row is a document of its own."""
    assert file.is_learned is not None
    tokens_BT = np.zeros((len(bins), width), dtype=np.int64)
    targets_BT = np.full((len(bins), width), IGNORE, dtype=np.int64)
    segments_BT = np.zeros((len(bins), width), dtype=np.int64)
    for row, items in enumerate(bins):
        column = 0
        for segment, item in enumerate(items, start=1):
            start, length = examples.starts[item], examples.lengths[item]
            place = slice(column, column + length)
            ids, is_learned = (of[start : start + length + 1] for of in (file.ids, file.is_learned))
            tokens_BT[row, place] = ids[:-1]
            targets_BT[row, place] = np.where(is_learned[1:], ids[1:].astype(np.int64), IGNORE)
            segments_BT[row, place] = segment
            column += length
    batch = {"tokens_BT": tokens_BT, "targets_BT": targets_BT, "segments_BT": segments_BT}
    return {key: torch.from_numpy(value) for key, value in batch.items()}


def _bins_of(lengths: NDArray[np.int64], config: ConversationsConfig) -> list[Bin]:
    return pack(lengths, config.context_length) if config.packing else [[item] for item in range(len(lengths))]


def _longest(examples: Examples, bins: list[Bin]) -> int:
    return int(max(examples.lengths[items].sum() for items in bins))
