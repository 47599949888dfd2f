"""Examples that have a row each: texts with labels, and pairs of texts."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from lmexp.config.data import AUTO, DataConfig, Order, TooLong
from lmexp.config.schema import setting


@dataclass(kw_only=True)
class BucketsConfig(DataConfig):
    """What every option has whose examples have a row each: those of like length share a batch, so that little of it is
    padding.
    """

    texts_per_example: ClassVar[int] = 1

    batch_tokens: int | None = setting(None, at_least=1)
    """Most tokens in one micro-step, padding included, over all ranks together; as many rows as fit, of long texts
    fewer. null takes batch_size rows."""
    too_long: TooLong = setting(TooLong.cut)
    """A text of more than context_length tokens: cut keeps its beginning, drop leaves the example out; both are
    counted."""

    @property
    def rows(self) -> int:
        """Rows in one micro-step; where tokens are counted, of texts of full length."""
        if self.batch_tokens is not None:
            return max(1, self.batch_tokens // self.context_length)
        return super().rows

    def check(self) -> Iterator[tuple[str, str]]:
        yield from super().check()
        if self.order is not Order.shuffled:
            yield "order", "examples follow on nothing; leave it at shuffled"
        if self.segments:
            yield "segments", "each example has a row of its own; leave it at false"
        if self.batch_size == AUTO or self.global_batch_size is not None:
            yield "batch_size", "must be a number here, without global_batch_size: rows are as long as their texts"
        if self.batch_tokens is not None and self.batch_tokens < self.context_length:
            yield "batch_tokens", f"must have room for a text of context_length={self.context_length} tokens"
