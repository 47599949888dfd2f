"""Batches of examples of like length, each a function of (seed, k) alone (design rule 3): which examples share one is
drawn anew for each epoch from (seed, epoch).

Shapes: B rows of this rank, S tokens of a source, T tokens of a text or a target.
"""

from functools import lru_cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lmexp.config.buckets import BucketsConfig
from lmexp.config.data import Content
from lmexp.data.batches import IGNORE, Batch
from lmexp.data.buckets import Examples, plan, require_learnable, usable
from lmexp.tokenization import TokenFile


class BucketBatches:
    """Batches of like lengths in an order that is drawn anew for each epoch."""

    def __init__(
        self,
        file: TokenFile,
        config: BucketsConfig,
        *,
        seed: int,
        accumulate: int,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        require_learnable(file, config, "train")
        self.file, self.config, self.seed, self.accumulate = file, config, seed, accumulate
        self.rank, self.world_size = rank, world_size
        self.examples = usable(file, config)
        self._epoch = lru_cache(maxsize=2)(self._draw_epoch)
        self.batches_per_epoch = float(len(self._epoch(0)))

    def __getitem__(self, micro_step: int) -> Batch:
        whole = self._units(micro_step)
        first = micro_step - micro_step % self.accumulate
        in_step = np.concatenate([self._units(k) for k in range(first, first + self.accumulate)])
        parts = self.accumulate * self.world_size
        batch = rows_of(self.file, self.examples, whole[self.rank :: self.world_size], self.config)
        batch["mean_learned"] = num_learned(self.examples, in_step, self.config) / parts
        batch["num_tokens"] = int(self.examples.lengths[whole].sum())
        return batch | {"micro_step": micro_step}

    def _units(self, micro_step: int) -> NDArray[np.int64]:
        wrapped = micro_step % self.config.limit_batches if self.config.limit_batches else micro_step
        epoch, number = divmod(wrapped, int(self.batches_per_epoch))
        return self._epoch(epoch)[number]

    def _draw_epoch(self, epoch: int) -> list[NDArray[np.int64]]:
        return plan(self.examples, self.config, np.random.default_rng([self.seed, epoch]))


class BucketEvaluationBatches:
    """All examples of a split once, the shortest first, whatever the batch size and the ranks."""

    def __init__(self, file: TokenFile, config: BucketsConfig, *, rank: int = 0, world_size: int = 1) -> None:
        self.file, self.config, self.examples = file, config, usable(file, config)
        order, rows = np.argsort(self.examples.longest, kind="stable"), config.evaluation_rows
        batches = [order[first : first + rows] for first in range(0, len(order), rows)]
        self.batches = batches[rank::world_size] or [order[:0]]  # every rank must have one

    def __len__(self) -> int:
        return len(self.batches)

    def __getitem__(self, index: int) -> Batch:
        return rows_of(self.file, self.examples, self.batches[index], self.config)


def num_learned(examples: Examples, units: NDArray[np.int64], config: BucketsConfig) -> int:
    """Return how much is learned of examples: a label each, or the tokens of their targets."""
    return int(examples.lengths[units, -1].sum()) if config.content is Content.pairs else len(units)


def rows_of(file: TokenFile, examples: Examples, units: NDArray[np.int64], config: BucketsConfig) -> Batch:
    """Return examples as rows, filled up to the longest; `numbers_B` are theirs in the split.

    Where there is none, a row without anything to learn stands for them, for every rank must have one.
    """
    is_empty = not len(units)
    if is_empty and len(examples):
        units = np.zeros(1, dtype=np.int64)
    starts_BE, lengths_BE = examples.starts[units], examples.lengths[units]
    batch: Batch = {"numbers_B": torch.from_numpy(examples.numbers[units])}
    if config.content is Content.pairs:
        batch["source_BS"], batch["source_mask_BS"] = padded(file, starts_BE[:, 0], lengths_BE[:, 0])
        batch["tokens_BT"], mask_BT = padded(file, starts_BE[:, 1], lengths_BE[:, 1])
        targets_BT, _ = padded(file, starts_BE[:, 1] + 1, lengths_BE[:, 1])
        batch["targets_BT"] = targets_BT.masked_fill(~mask_BT, IGNORE)
    else:
        assert file.labels is not None
        batch["tokens_BT"], batch["mask_BT"] = padded(file, starts_BE[:, 0], lengths_BE[:, 0])
        batch["labels_B"] = torch.from_numpy(np.asarray(file.labels)[examples.numbers[units]].astype(np.int64))
    if is_empty:
        learned = "targets_BT" if config.content is Content.pairs else "labels_B"
        batch[learned] = torch.full_like(batch[learned], IGNORE)
    return batch


def padded(file: Any, starts_B: NDArray[np.int64], lengths_B: NDArray[np.int64]) -> tuple[Tensor, Tensor]:
    """Return texts side by side, zeros after each, and which tokens are real.

    Shape: (B, T) each.
    """
    columns_T = np.arange(max(1, int(lengths_B.max(initial=0))))
    mask_BT = columns_T < lengths_B[:, None]
    within_BT = np.where(mask_BT, starts_B[:, None] + columns_T, 0)
    ids_BT = np.where(mask_BT, file.ids[within_BT].astype(np.int64), 0)
    return torch.from_numpy(ids_BT), torch.from_numpy(mask_BT)
