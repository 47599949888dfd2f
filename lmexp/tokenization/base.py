"""What every tokenizer can do, and how one is learned, stored and loaded."""

import hashlib
import json
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lmexp.config.schema import OPTIONS, build, built_class
from lmexp.config.store import option_from_dict, to_dict
from lmexp.config.tokenizer import FileTokenizerConfig, TokenizerConfig
from lmexp.errors import DataError, RunError

IN_WORD = re.compile("[^\\W\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]|\ufffd")
"""Letters, digits and bytes; a Chinese or Japanese character is a word of its own."""


STRETCH_CHARACTERS = 2**20

Document = str | Iterable[str]
"""The text of a document, or the pieces of one that may be larger than memory, one after the other."""


class Tokenizer(ABC):
    """Text <-> ids.

    `learned` is all that a tokenizer takes from text, as JSON can hold it; with its config it makes the tokenizer.
    """

    vocab_size: int
    end_of_document_id: int | None
    begin_of_text_id: int | None = None
    """The token that a pretrained model expects at the start of a text, where it has one."""
    mask_id: int | None = None
    """The token that stands for a masked one; None where the vocabulary has none."""

    def __init__(self, config: TokenizerConfig, *, learned: Any) -> None:
        self.config = config
        self.learned = learned

    @staticmethod
    @abstractmethod
    def learn(config: Any, documents: Iterable[Iterable[str]]) -> Any:
        """Return what the documents of the training split, each in pieces, teach.

        Raises:
            DataError: the texts cannot give such a tokenizer.
        """

    @abstractmethod
    def encode(self, text: str) -> NDArray[np.int64]:
        """Return the ids of a text, without an end-of-document token."""

    def encode_all(self, texts: Sequence[str]) -> Iterable[NDArray[np.int64]]:
        """Return the ids of each text; a tokenizer that has threads uses them here."""
        return map(self.encode, texts)

    def stretches(self, pieces: Iterable[str], characters: int = STRETCH_CHARACTERS) -> Iterator[str]:
        """Yield a text that comes in pieces in stretches of about so many characters whose ids, one after the other,
        are those of the whole.
        """
        return in_stretches(pieces, characters, self.cut)

    def cut(self, text: str, first: int) -> int | None:
        """Return the first position, `first` (from 1) or later, at which a text can be cut without a change of its ids;
        None if there is none before the end.
        """
        return None

    @abstractmethod
    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of the ids; special tokens are left out."""

    @cached_property
    def word_edges(self) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """Return whether each token can go on with the word before it, and whether a word can go on after it.

        Shape: (vocab_size) each.
        """
        pieces = [self._piece_after_a_word(i) for i in range(self.vocab_size)]
        goes_on = [bool(IN_WORD.match(piece[:1])) for piece in pieces]
        can_go_on = [bool(IN_WORD.match(piece[-1:])) for piece in pieces]
        return np.array(goes_on), np.array(can_go_on)

    def _piece_after_a_word(self, i: int) -> str:
        """Return the text that a token adds after a word, with the space between if it writes one."""
        return self.decode([self._a_word, i])[len(self.decode([self._a_word])) :]

    @cached_property
    def _a_word(self) -> int:
        """The first token that is all letters."""
        return next((i for i in range(self.vocab_size) if self.decode([i]).strip().isalpha()), 0)

    @cached_property
    def hash(self) -> str:
        """16 hexadecimal digits of what the tokenizer is; equal tokenizers have equal ids for every text."""
        config = to_dict(self.config, identity_only=True)
        text = json.dumps({"config": config, "learned": self.learned}, sort_keys=True)
        return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()

    def save(self, path: Path) -> None:
        """Write the tokenizer as one JSON file."""
        content = {"format": 1, "hash": self.hash, "config": to_dict(self.config), "learned": self.learned}
        path.write_text(json.dumps(content, ensure_ascii=False, indent=1), encoding="utf-8")


def learn(config: TokenizerConfig, documents: Iterable[Document]) -> Tokenizer:
    """Return a tokenizer learned from documents, or the one that the files of its config hold.

    Raises:
        DataError: the documents cannot give such a tokenizer, or the files hold none.
        RunError: the file of another run's tokenizer cannot be read.
    """
    if isinstance(config, FileTokenizerConfig):
        return load(Path(str(config.path)).expanduser())
    in_pieces = (map(require_unicode, pieces(document)) for document in documents)
    return build(config, learned=built_class(config).learn(config, in_pieces))


def pieces(document: Document) -> Iterable[str]:
    """Return a document in pieces."""
    return (document,) if isinstance(document, str) else document


def load(path: Path) -> Tokenizer:
    """Return the tokenizer that `save` wrote.

    Raises:
        RunError: the file is missing, damaged or from another lmexp.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if "added_tokens" in content:
            raise DataError("it is one of Hugging Face: take it with tokenizer=hf tokenizer.name_or_path=...")
        config = option_from_dict(OPTIONS["tokenizer"], content["config"], str(path))
        tokenizer: Tokenizer = build(config, learned=content["learned"])
        stored = content["hash"]
    except (OSError, ValueError, KeyError, TypeError, DataError) as error:
        raise RunError(f"{path}: the tokenizer cannot be read ({error}); copy it from an intact run folder") from None
    if tokenizer.hash != stored:
        raise RunError(f"{path}: the tokenizer was changed after it was written; copy it from an intact run folder")
    return tokenizer


def bytes_to_text(data: bytes) -> str:
    """Return UTF-8 as text; bytes that are none (a model may write any) become U+FFFD."""
    return data.decode("utf-8", errors="replace")


def text_to_bytes(text: str) -> bytes:
    """Return a text as UTF-8.

    Raises:
        DataError: the text holds half a surrogate pair, which no UTF-8 text can.
    """
    try:
        return text.encode("utf-8")
    except UnicodeEncodeError as error:
        half = f"{text[error.start]!r} at character {error.start}"
        raise DataError(f"the text holds {half}: half of a surrogate pair, which is not Unicode text") from None


def require_unicode(text: str) -> str:
    """Return the text; raises what `text_to_bytes` raises."""
    text_to_bytes(text)
    return text


def in_stretches(pieces: Iterable[str], characters: int, cut: Callable[[str, int], int | None]) -> Iterator[str]:
    """Yield a text that comes in pieces in stretches of about so many characters, cut where `Tokenizer.cut` allows."""
    text = ""
    for piece in pieces:
        text += piece
        start = 0
        while (end := cut(text, start + characters)) is not None:
            yield text[start:end]
            start = end
        text = text[start:]
    if text:
        yield text
