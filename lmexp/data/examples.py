"""Conversations as ids, with what is learned of them."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby, islice

import numpy as np
from numpy.typing import NDArray

from lmexp.data.messages import Piece
from lmexp.data.templates import special_id
from lmexp.tokenization import Tokenizer

AT_ONCE = 256
"""Conversations that are encoded together, for a tokenizer to divide among its threads."""


@dataclass(frozen=True)
class Example:
    """A conversation as a model reads it."""

    ids: NDArray[np.int64]
    is_learned: NDArray[np.bool_]
    learned_bytes: int
    """Bytes of what is learned as UTF-8."""


def encode(conversations: Iterable[Sequence[Piece]], tokenizer: Tokenizer) -> Iterator[Example]:
    """Yield conversations as ids.

    What is learned is encoded apart from what is before it: when an answer is generated nothing of it is there yet, and
    no token may reach over that border.

    Raises:
        DataError: the tokenizer cannot spell a text, or has not a special token.
    """
    waiting = iter(conversations)
    while batch := [_joined(pieces) for pieces in islice(waiting, AT_ONCE)]:
        texts = [piece.text for pieces in batch for piece in pieces if not piece.is_special]
        encoded = iter(tokenizer.encode_literally(texts))
        for pieces in batch:
            parts = [_ids(piece, tokenizer) if piece.is_special else next(encoded) for piece in pieces]
            yield Example(
                ids=np.concatenate(parts),
                is_learned=np.repeat([piece.is_learned for piece in pieces], [len(part) for part in parts]),
                learned_bytes=sum(len(p.text.encode()) for p in pieces if p.is_learned and not p.is_special),
            )


def _ids(piece: Piece, tokenizer: Tokenizer) -> NDArray[np.int64]:
    found = special_id(piece.text, tokenizer)
    return np.array([] if found is None else [found], dtype=np.int64)


def _joined(pieces: Sequence[Piece]) -> list[Piece]:
    """Return the pieces with texts that follow each other as one where both are learned or neither is."""
    joined: list[Piece] = []
    for (is_special, is_learned), group in groupby(pieces, key=lambda piece: (piece.is_special, piece.is_learned)):
        if is_special:
            joined += group
        else:
            joined.append(Piece("".join(piece.text for piece in group), is_learned=is_learned))
    return joined
