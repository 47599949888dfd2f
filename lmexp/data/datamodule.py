"""Batches handed to Lightning.

A loader here is a plain list of batches by number. It starts at the task's own counter of batches, so that nothing of
Lightning's loader state is needed to go on where a run was stopped.
"""

from collections.abc import Iterator
from typing import Any

import torch
from pytorch_lightning import LightningDataModule
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from lmexp.config.data import DataConfig
from lmexp.data.batches import Batch, Batches
from lmexp.data.corpus import Corpus
from lmexp.data.order import evaluation_batches, training_batches


class TextDataModule(LightningDataModule):
    """Loaders over a corpus."""

    def __init__(
        self, config: DataConfig, corpus: Corpus, *, seed: int, accumulate: int, max_steps: int, steps_per_stretch: int
    ) -> None:
        super().__init__()
        self.config, self.corpus = config, corpus
        self.seed, self.accumulate = seed, accumulate
        self.max_steps, self.steps_per_stretch = max_steps, steps_per_stretch

    def train_dataloader(self) -> Any:
        batches = training_batches(
            self.corpus.open("train"), self.config, seed=self.seed, accumulate=self.accumulate, **self._place()
        )
        assert self.trainer is not None
        task: Any = self.trainer.lightning_module
        sampler = From(task.steps_done // self.steps_per_stretch, -(-self.max_steps // self.steps_per_stretch))
        stretches = Stretches(batches, self.steps_per_stretch * self.accumulate, self.max_steps * self.accumulate)
        return DataLoader(stretches, batch_size=None, sampler=sampler, collate_fn=_as_is)

    def val_dataloader(self) -> Any:
        return self._evaluation_loader("val")

    def test_dataloader(self) -> Any:
        return self._evaluation_loader("test")

    def transfer_batch_to_device(self, batch: Any, device: Any, dataloader_idx: int) -> Any:
        if device.type == "cpu":
            return batch
        if isinstance(batch, list):
            return [self.transfer_batch_to_device(part, device, dataloader_idx) for part in batch]
        return {key: _moved(value, device) if hasattr(value, "to") else value for key, value in batch.items()}

    def _evaluation_loader(self, split: str) -> Any:
        batches = evaluation_batches(self.corpus.open(split), self.config, **self._place())
        return DataLoader(_Items(batches), batch_size=None, sampler=From(0, len(batches)), collate_fn=_as_is)

    def _place(self) -> dict[str, int]:
        assert self.trainer is not None
        return {"rank": self.trainer.global_rank, "world_size": self.trainer.world_size}


class From(Sampler[int]):
    """Numbers from `start` to `total`, with the length of the whole, for Lightning counts from zero."""

    def __init__(self, start: int, total: int) -> None:
        self.start, self.total = start, total

    def __iter__(self) -> Iterator[int]:
        return iter(range(self.start, self.total))

    def __len__(self) -> int:
        return self.total


class Stretches(Dataset[list[Batch]]):
    """The batches of several optimizer steps as one item."""

    def __init__(self, batches: Batches, length: int, total: int) -> None:
        self.batches, self.length, self.total = batches, length, total

    def __getitem__(self, index: int) -> list[Batch]:
        first = index * self.length
        return [self.batches[k] for k in range(first, min(first + self.length, self.total))]


class _Items(Dataset[Batch]):
    """Anything with __getitem__ as a torch Dataset."""

    def __init__(self, items: Any) -> None:
        self.items = items

    def __getitem__(self, index: int) -> Batch:
        return self.items[index]


def _moved(tensor: Tensor, device: torch.device) -> Tensor:
    """Return a tensor on a device; a GPU fetches it while it computes, for the CPU does not wait for pinned memory."""
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor.to(device)


def _as_is(batch: Any) -> Batch:
    return batch
