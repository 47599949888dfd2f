"""Rows of conversations as batches, each a function of (seed, k) alone (design rule 3): rows are made anew for each
epoch from (seed, epoch).

Shapes: B rows of this rank, T tokens, U units.
"""

from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray

from lmexp.config.chat import ConversationsConfig
from lmexp.data.batches import IGNORE, Batch
from lmexp.data.packing import Bin, Examples, bins_of, require_learnable, usable
from lmexp.tokenization import TokenFile


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
        in_step = [unit for k in range(first, first + self.accumulate) for row in self._bins(k) for unit in row]
        parts = self.accumulate * self.world_size
        batch = rows_of(self.file, self.examples, bins[self.rows_of_rank], _width(self.config, self.examples, bins))
        batch["mean_learned"] = int(self.examples.num_learned[in_step].sum()) / parts
        batch["mean_units"] = len(in_step) / parts
        batch["num_tokens"] = int(sum(self.examples.lengths[row].sum() for row in bins))
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
        bins = bins_of(self.examples.lengths[shuffled], self.config)
        return [shuffled[one].tolist() for one in bins], random.permutation(len(bins))


class ExampleEvaluationBatches:
    """All examples of a split, each learned token once, whatever the batch size and the ranks."""

    def __init__(self, file: TokenFile, config: ConversationsConfig, *, rank: int = 0, world_size: int = 1) -> None:
        self.file, self.config, self.examples = file, config, usable(file, config)
        bins = bins_of(self.examples.lengths, config)[rank::world_size]
        rows = config.evaluation_rows
        self.batches = [bins[i : i + rows] for i in range(0, len(bins), rows)] or [[[]]]  # every rank must have one

    def __len__(self) -> int:
        return len(self.batches)

    def __getitem__(self, index: int) -> Batch:
        bins = self.batches[index]
        return rows_of(self.file, self.examples, bins, _width(self.config, self.examples, bins))


def rows_of(file: TokenFile, examples: Examples, bins: list[Bin], width: int) -> Batch:
    """Return rows in which examples stand side by side; what is left of a row is a document of its own.

    `units_U` has the numbers of the units in the split, and `examples_BT` the number of each token's example among all
    of these rows, one after the last for what is left of a row.
    """
    assert file.is_learned is not None
    shape = (len(bins), width)
    num_examples = sum(map(len, bins)) * examples.starts.shape[1]
    tokens_BT, segments_BT = np.zeros(shape, dtype=np.int64), np.zeros(shape, dtype=np.int64)
    targets_BT, examples_BT = np.full(shape, IGNORE, dtype=np.int64), np.full(shape, num_examples, dtype=np.int64)
    number = 0
    for row, units in enumerate(bins):
        column = 0
        parts = zip(examples.starts[units].flatten().tolist(), examples.lengths[units].flatten().tolist(), strict=True)
        for segment, (start, length) in enumerate(parts, start=1):
            place = slice(column, column + length)
            ids, is_learned = (of[start : start + length + 1] for of in (file.ids, file.is_learned))
            tokens_BT[row, place] = ids[:-1]
            targets_BT[row, place] = np.where(is_learned[1:], ids[1:].astype(np.int64), IGNORE)
            segments_BT[row, place] = segment
            examples_BT[row, place] = number
            column, number = column + length, number + 1
    numbers = examples.numbers[np.array([unit for units in bins for unit in units], dtype=np.int64)]
    batch = {
        "tokens_BT": tokens_BT,
        "targets_BT": targets_BT,
        "segments_BT": segments_BT,
        "examples_BT": examples_BT,
        "units_U": numbers,
    }
    return {key: torch.from_numpy(value) for key, value in batch.items()}


def _width(config: ConversationsConfig, examples: Examples, bins: list[Bin]) -> int:
    """Return the length of rows; without packing that of the longest."""
    longest = max(int(examples.lengths[row].sum()) for row in bins)
    return config.context_length if config.packing else max(1, longest)
