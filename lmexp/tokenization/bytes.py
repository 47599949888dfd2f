"""One token a byte of UTF-8, and one for the end of a document."""

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from lmexp.config.tokenizer import BytesConfig
from lmexp.tokenization.base import Tokenizer, bytes_to_text, text_to_bytes


class Bytes(Tokenizer):
    """Ids 0 to 255 are bytes."""

    vocab_size = 257
    end_of_document_id = 256

    @staticmethod
    def learn(config: BytesConfig, documents: Iterable[Iterable[str]]) -> None:
        """Return nothing: there is nothing to learn."""

    def encode(self, text: str) -> NDArray[np.int64]:
        return np.frombuffer(text_to_bytes(text), dtype=np.uint8).astype(np.int64)

    def cut(self, text: str, first: int) -> int | None:
        return first if first < len(text) else None

    def decode(self, ids: Sequence[int]) -> str:
        return bytes_to_text(bytes(i for i in ids if i < 256))
