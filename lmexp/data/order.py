"""The batches of a config, each a function of (seed, k) alone (design rule 3)."""

from collections.abc import Sized
from typing import Any, Protocol

from lmexp.config.buckets import BucketsConfig
from lmexp.config.chat import ConversationsConfig
from lmexp.config.data import DataConfig, Order
from lmexp.data.batches import Batch, Batches, ContiguousBatches, EvaluationBatches, ShuffledBatches
from lmexp.data.bucket_batches import BucketBatches, BucketEvaluationBatches
from lmexp.data.example_batches import ExampleBatches, ExampleEvaluationBatches
from lmexp.tokenization import TokenFile


class Split(Sized, Protocol):
    """The batches of a whole split."""

    def __getitem__(self, index: int) -> Batch: ...


def training_batches(
    file: TokenFile, config: DataConfig, *, seed: int, accumulate: int, rank: int = 0, world_size: int = 1
) -> Batches:
    """Return the training batches of a config for one rank."""
    place: dict[str, Any] = {"rank": rank, "world_size": world_size}
    if isinstance(config, ConversationsConfig):
        return ExampleBatches(file, config, seed=seed, accumulate=accumulate, **place)
    if isinstance(config, BucketsConfig):
        return BucketBatches(file, config, seed=seed, accumulate=accumulate, **place)
    if config.order is Order.contiguous:
        return ContiguousBatches(file, config, accumulate=accumulate, **place)
    return ShuffledBatches(file, config, seed=seed, **place)


def evaluation_batches(file: TokenFile, config: DataConfig, *, rank: int = 0, world_size: int = 1) -> Split:
    """Return the batches of a whole split for one rank."""
    place: dict[str, Any] = {"rank": rank, "world_size": world_size}
    if isinstance(config, ConversationsConfig):
        return ExampleEvaluationBatches(file, config, **place)
    if isinstance(config, BucketsConfig):
        return BucketEvaluationBatches(file, config, **place)
    return EvaluationBatches(file, config, **place)
