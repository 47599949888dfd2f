"""What a pretrained decoder remembers: transformers' own cache, and where the document of each row begins."""

import copy
from collections.abc import Callable
from typing import Any

from torch import Tensor


class PretrainedState:
    """A growing key-value cache, and of an encoder-decoder the source it reads from.

    `max_length` 0 is a source alone: the target is read at once, without a cache.
    """

    def __init__(self, hf_config: Any, max_length: int, *, has_source: bool = False) -> None:
        from transformers import DynamicCache, EncoderDecoderCache

        self.length, self.max_length = 0, max_length
        self.starts_B: Tensor | None = None  # where the document begins that each row goes on with, if not at 0
        self.source_BSC: Tensor | None = None
        self.source_mask_BS: Tensor | None = None
        self.cache: Any = DynamicCache() if has_source else DynamicCache(config=hf_config)
        if has_source:
            self.cache = EncoderDecoderCache(self.cache, DynamicCache())

    def read(self, num_tokens: int) -> None:
        """Count tokens that are about to be read.

        Raises:
            ValueError: there is no room for them.
        """
        if self.length + num_tokens > self.max_length:
            raise ValueError(f"a state for {self.max_length} tokens cannot hold {self.length + num_tokens}")
        self.length += num_tokens

    def select(self, rows: Tensor) -> "PretrainedState":
        return self._changed(lambda tensor: tensor[rows])

    def detach(self) -> "PretrainedState":
        return self._changed(lambda tensor: tensor.detach())

    def _changed(self, change: Callable[[Tensor], Tensor]) -> "PretrainedState":
        twin = copy.copy(self)
        twin.cache = _changed_cache(self.cache, change)
        for name in ("starts_B", "source_BSC", "source_mask_BS"):
            tensor = getattr(self, name)
            setattr(twin, name, None if tensor is None else change(tensor))
        return twin


def _changed_cache(cache: Any, change: Callable[[Tensor], Tensor]) -> Any:
    """Return a copy of a cache in which every tensor that has rows was changed."""
    if hasattr(cache, "self_attention_cache"):
        parts = (cache.self_attention_cache, cache.cross_attention_cache)
        return type(cache)(*(_changed_cache(part, change) for part in parts))
    twin = copy.copy(cache)
    twin.layers = [copy.copy(layer) for layer in cache.layers]
    for layer in twin.layers:
        for name, value in vars(layer).items():
            if isinstance(value, Tensor) and value.ndim > 1:
                setattr(layer, name, change(value))
    return twin
