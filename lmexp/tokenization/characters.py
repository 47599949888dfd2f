"""One token a character of the training split; bytes for all others.

Ids: the characters in the order of their code points, then 256 bytes (if asked for), then the end of a document (if
asked for). Without both, the vocabulary is the characters alone, as nanoGPT's is.
"""

from collections.abc import Iterable, Sequence
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from lmexp.config.tokenizer import CharactersConfig
from lmexp.errors import DataError
from lmexp.tokenization.base import Tokenizer, bytes_to_text, require_unicode

HIGHEST_CODE_POINT = 0x10FFFF


class Characters(Tokenizer):
    """A table from code points to ids."""

    def __init__(self, config: CharactersConfig, *, learned: str) -> None:
        super().__init__(config, learned=learned)
        self.byte_fallback = config.byte_fallback
        self.num_characters = len(learned)
        num_bytes = 256 if config.byte_fallback else 0
        self.vocab_size = self.num_characters + num_bytes + int(config.end_of_document)
        self.end_of_document_id = self.vocab_size - 1 if config.end_of_document else None
        self._id_of_code_point = np.full(HIGHEST_CODE_POINT + 1, -1, dtype=np.int32)
        self._id_of_code_point[[ord(character) for character in learned]] = np.arange(len(learned))

    @staticmethod
    def learn(config: CharactersConfig, documents: Iterable[Iterable[str]]) -> str:
        seen: set[str] = set()
        for piece in chain.from_iterable(documents):
            seen.update(piece)
        return "".join(sorted(seen))

    def encode(self, text: str) -> NDArray[np.int64]:
        code_points = np.frombuffer(require_unicode(text).encode("utf-32-le"), dtype=np.uint32)
        ids = self._id_of_code_point[code_points].astype(np.int64)
        unknown = ids < 0
        if not unknown.any():
            return ids
        if not self.byte_fallback:
            character = text[int(unknown.argmax())]
            raise DataError(
                f"{character!r} (U+{ord(character):04X}) is not in the training split; "
                "set tokenizer.byte_fallback=true to spell such characters in bytes"
            )
        num_bytes = 1 + (code_points >= 0x80) + (code_points >= 0x800) + (code_points >= 0x10000)
        spelled = np.repeat(ids, np.where(unknown, num_bytes, 1))
        data = code_points[unknown].tobytes().decode("utf-32-le").encode()
        spelled[spelled < 0] = np.frombuffer(data, dtype=np.uint8).astype(np.int64) + self.num_characters
        return spelled

    def cut(self, text: str, first: int) -> int | None:
        return first if first < len(text) else None

    def decode(self, ids: Sequence[int]) -> str:
        text: list[str] = []
        pending = bytearray()
        for i in ids:
            if self.num_characters <= i < self.num_characters + 256 and self.byte_fallback:
                pending.append(i - self.num_characters)
                continue
            text.append(bytes_to_text(bytes(pending)))
            pending.clear()
            if i < self.num_characters:
                text.append(self.learned[i])
        return "".join(text) + bytes_to_text(bytes(pending))
