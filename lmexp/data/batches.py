"""Which tokens batch k holds: a function of (seed, k) alone (design rule 3, decision 002).

A batch is one micro-step over all ranks; rank r of W takes the r-th part of its rows. So a run that was stopped asks
for batch k again and gets the same rows, and W ranks see what one rank would.
Shapes: B rows of this rank, T tokens.
"""

from functools import lru_cache
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from lmexp.config.data import DataConfig, Order
from lmexp.data.length import require_context
from lmexp.tokenization import TokenFile

Batch = dict[str, Any]
"""tokens_BT and targets_BT (the tokens one later, IGNORE where there is none); segments_BT when documents are kept
apart; starts_B, where in the text each row begins; resets_B, in contiguous order, for rows that start without the state
before them; micro_step, in training."""

IGNORE = -100


class Batches(Protocol):
    """Training batches by the number of their micro-step."""

    batches_per_epoch: float

    def __getitem__(self, micro_step: int) -> Batch: ...


class ShuffledBatches:
    """Windows of the text in an order that is drawn anew for each epoch, cut at another offset each time."""

    def __init__(self, file: TokenFile, config: DataConfig, *, seed: int, rank: int = 0, world_size: int = 1) -> None:
        require_context(len(file.ids), config, accumulate=1)
        self.file, self.config, self.seed = file, config, seed
        length = config.context_length
        self.windows_per_epoch = max(1, (len(file.ids) - length) // length)
        self.num_offsets = min(length, len(file.ids) - self.windows_per_epoch * length)
        self.batches_per_epoch = self.windows_per_epoch / config.rows
        rows = config.rows // world_size
        self.rows_of_rank = np.arange(rank * rows, (rank + 1) * rows)
        self._windows_of_epoch = lru_cache(maxsize=2)(self._draw_epoch)

    def __getitem__(self, micro_step: int) -> Batch:
        wrapped = micro_step % self.config.limit_batches if self.config.limit_batches else micro_step
        positions = wrapped * self.config.rows + self.rows_of_rank
        epochs, windows = np.divmod(positions, self.windows_per_epoch)
        starts_B = np.array(
            [self._windows_of_epoch(epoch)[window] for epoch, window in zip(epochs, windows, strict=True)]
        )
        return cut(self.file, starts_B, self.config) | {"micro_step": micro_step}

    def _draw_epoch(self, epoch: int) -> NDArray[np.int64]:
        """Return where each window of an epoch starts, in the order in which they are read."""
        random = np.random.default_rng([self.seed, int(epoch)])
        offset = random.integers(self.num_offsets)
        return random.permutation(self.windows_per_epoch) * self.config.context_length + offset


class ContiguousBatches:
    """Streams that each read on where they stopped; micro-step k reads chunk k // A of stream group k % A."""

    def __init__(
        self, file: TokenFile, config: DataConfig, *, accumulate: int, rank: int = 0, world_size: int = 1
    ) -> None:
        require_context(len(file.ids), config, accumulate=accumulate)
        self.file, self.config, self.accumulate = file, config, accumulate
        self.stream_length = (len(file.ids) - 1) // (config.rows * accumulate)
        self.chunks_per_epoch = self.stream_length // config.context_length
        self.batches_per_epoch = float(self.chunks_per_epoch * accumulate)
        limit = -(-config.limit_batches // accumulate) if config.limit_batches else self.chunks_per_epoch
        self.chunks_used = min(self.chunks_per_epoch, limit)
        rows = config.rows // world_size
        self.rows_of_rank = np.arange(rank * rows, (rank + 1) * rows)

    def __getitem__(self, micro_step: int) -> Batch:
        chunk, group = divmod(micro_step, self.accumulate)
        chunk %= self.chunks_used
        streams = group * self.config.rows + self.rows_of_rank
        starts_B = streams * self.stream_length + chunk * self.config.context_length
        batch = cut(self.file, starts_B, self.config) | {"micro_step": micro_step}
        batch["resets_B"] = resets(self.file, starts_B, self.config, all_rows=chunk == 0)
        return batch


class EvaluationBatches:
    """A whole split, every token but the first predicted exactly once, whatever the batch size and the ranks.

    Shuffled order: windows side by side. Contiguous order: streams, so that a state is carried over.
    """

    def __init__(self, file: TokenFile, config: DataConfig, *, rank: int = 0, world_size: int = 1) -> None:
        self.file, self.config = file, config
        self.batch_size = config.evaluation_rows
        num_targets = max(0, len(file.ids) - 1)
        length = config.context_length
        if config.order is Order.contiguous:
            stream_length = -(-num_targets // self.batch_size)
            streams = np.arange(rank, self.batch_size, world_size)
            chunks = np.arange(0, stream_length, length)
            self.starts = [streams * stream_length + chunk for chunk in chunks] if len(streams) else []
            ends = np.minimum((streams + 1) * stream_length, num_targets)
            self.ends = [ends for _ in chunks]
        else:
            windows = np.arange(0, num_targets, length)[rank::world_size]
            self.starts = [windows[i : i + self.batch_size] for i in range(0, len(windows), self.batch_size)]
            self.ends = [np.full(len(starts), num_targets) for starts in self.starts]
        if not self.starts and len(file.ids):  # every rank must have a batch, though nothing be predicted in it
            self.starts, self.ends = [np.zeros(1, dtype=np.int64)], [np.zeros(1, dtype=np.int64)]

    def __len__(self) -> int:
        return len(self.starts)

    def __getitem__(self, index: int) -> Batch:
        starts_B = self.starts[index]
        batch = cut(self.file, starts_B, self.config, self.ends[index])
        if self.config.order is Order.contiguous:
            batch["resets_B"] = resets(self.file, starts_B, self.config, all_rows=index == 0)
        return batch


class SlidingBatches:
    """A whole split in windows that overlap: each predicts its last `stride` tokens."""

    def __init__(self, file: TokenFile, config: DataConfig, stride: int) -> None:
        self.file, self.config, self.stride = file, config, stride
        self.firsts = np.arange(0, max(1, len(file.ids) - 1), stride)

    def __len__(self) -> int:
        return -(-len(self.firsts) // self.config.evaluation_rows)

    def __getitem__(self, index: int) -> Batch:
        rows = self.config.evaluation_rows
        firsts_B = self.firsts[index * rows : (index + 1) * rows]
        starts_B = np.maximum(0, firsts_B + self.stride - self.config.context_length)
        ends_B = np.minimum(firsts_B + self.stride, len(self.file.ids) - 1)
        batch = cut(self.file, starts_B, self.config, ends_B)
        columns_BT = starts_B[:, None] + np.arange(self.config.context_length)
        before_BT = torch.from_numpy(columns_BT < firsts_B[:, None])
        return batch | {"targets_BT": batch["targets_BT"].masked_fill(before_BT, IGNORE)}


def cut(
    file: TokenFile, starts_B: NDArray[np.int64], config: DataConfig, ends_B: NDArray[np.int64] | None = None
) -> Batch:
    """Return the windows that start at these positions; targets at or after `ends_B` are not predicted."""
    index_BT = starts_B[:, None] + np.arange(config.context_length + 1)
    within_BT = np.minimum(index_BT, len(file.ids) - 1)
    ids_BT = torch.from_numpy(file.ids[within_BT].astype(np.int64))
    batch: Batch = {"tokens_BT": ids_BT[:, :-1], "targets_BT": ids_BT[:, 1:], "starts_B": torch.from_numpy(starts_B)}
    if ends_B is not None:
        beyond_BT = torch.from_numpy(index_BT[:, :-1] >= ends_B[:, None])
        batch["targets_BT"] = batch["targets_BT"].masked_fill(beyond_BT, IGNORE)
    if config.segments:
        batch["segments_BT"] = torch.from_numpy(_documents(file, within_BT[:, :-1]))
    return batch


def _documents(file: TokenFile, positions: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the number of the document, from 1, in which each position lies."""
    return np.searchsorted(file.document_starts, positions, side="right")


def resets(file: TokenFile, starts_B: NDArray[np.int64], config: DataConfig, *, all_rows: bool) -> torch.Tensor:
    """Return which rows begin without the state of the batch before: at the start of a stream or of a document."""
    resets_B = np.full(len(starts_B), all_rows)
    if config.segments:
        resets_B |= _documents(file, starts_B) != _documents(file, starts_B - 1)
    return torch.from_numpy(resets_B)
