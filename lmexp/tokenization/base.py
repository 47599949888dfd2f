"""What every tokenizer can do, and how one is learned, stored and loaded."""

import hashlib
import json
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
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
    special_ids: Mapping[str, int] = {}
    """The special tokens that have a name, such as those around the turns of a conversation."""
    special_names: Mapping[str, str] = {}
    """What Hugging Face calls some of them: {"bos_token": "<s>"}."""
    chat_template: str | None = None
    """Jinja that writes conversations for the model that the tokenizer belongs to, where it has one."""

    source: "Tokenizer | None" = None
    """Of pairs of texts the tokenizer of the sources, where it is another; set before the hash is asked for."""

    def __init__(self, config: TokenizerConfig, *, learned: Any) -> None:
        self.config = config
        self.learned = learned

    @property
    def num_ids(self) -> int:
        """How many ids a token file may hold: those of the sources, too."""
        return self.vocab_size if self.source is None else max(self.vocab_size, self.source.vocab_size)

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

    def encode_literally(self, texts: Sequence[str]) -> Iterable[NDArray[np.int64]]:
        """Return the ids of each text, in which the name of a special token is text like any other."""
        return self.encode_all(texts)

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

    @property
    def content(self) -> dict[str, Any]:
        """All that makes the tokenizer, as JSON can hold it."""
        own = {"config": to_dict(self.config), "learned": self.learned}
        return own if self.source is None else own | {"source": self.source.content}

    @cached_property
    def hash(self) -> str:
        """16 hexadecimal digits of what the tokenizer is; equal tokenizers have equal ids for every text."""
        config = to_dict(self.config, identity_only=True)
        text = json.dumps(self.content | {"config": config}, sort_keys=True)
        return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()

    def save(self, path: Path) -> None:
        """Write the tokenizer as one JSON file."""
        content = {"format": 1, "hash": self.hash, **self.content}
        path.write_text(json.dumps(content, ensure_ascii=False, indent=1), encoding="utf-8")


class WithSpecialTokens(Tokenizer):
    """A tokenizer with special tokens after its vocabulary, which no text ever becomes."""

    def __init__(self, base: Tokenizer, names: Sequence[str]) -> None:
        super().__init__(base.config, learned=base.learned)
        self.base, self.names = base, list(names)
        self.vocab_size = base.vocab_size + len(names)
        self.end_of_document_id, self.begin_of_text_id = base.end_of_document_id, base.begin_of_text_id
        self.mask_id, self.chat_template, self.special_names = base.mask_id, base.chat_template, base.special_names
        self.special_ids = {**base.special_ids, **{name: base.vocab_size + n for n, name in enumerate(names)}}

    @staticmethod
    def learn(config: Any, documents: Iterable[Iterable[str]]) -> Any:
        raise NotImplementedError("the tokenizer inside is learned, not this one")

    def encode(self, text: str) -> NDArray[np.int64]:
        return self.base.encode(text)

    def encode_all(self, texts: Sequence[str]) -> Iterable[NDArray[np.int64]]:
        return self.base.encode_all(texts)

    def encode_literally(self, texts: Sequence[str]) -> Iterable[NDArray[np.int64]]:
        return self.base.encode_literally(texts)

    def cut(self, text: str, first: int) -> int | None:
        return self.base.cut(text, first)

    def decode(self, ids: Sequence[int]) -> str:
        return self.base.decode([i for i in ids if i < self.base.vocab_size])

    @property
    def content(self) -> dict[str, Any]:
        return self.base.content | {"special_tokens": self.names}


def with_special_tokens(tokenizer: Tokenizer, names: Sequence[str]) -> Tokenizer:
    """Return the tokenizer with special tokens of these names; those that it has already stay what they are."""
    new = [name for name in names if name not in tokenizer.special_ids]
    if isinstance(tokenizer, WithSpecialTokens):
        return WithSpecialTokens(tokenizer.base, [*tokenizer.names, *new])
    return WithSpecialTokens(tokenizer, new) if new else tokenizer


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
        tokenizer = _from_content(content, str(path))
        stored = content["hash"]
    except (OSError, ValueError, KeyError, TypeError, DataError) as error:
        raise RunError(f"{path}: the tokenizer cannot be read ({error}); copy it from an intact run folder") from None
    if tokenizer.hash != stored:
        raise RunError(f"{path}: the tokenizer was changed after it was written; copy it from an intact run folder")
    return tokenizer


def _from_content(content: dict[str, Any], path: str) -> Tokenizer:
    config = option_from_dict(OPTIONS["tokenizer"], content["config"], path)
    tokenizer: Tokenizer = build(config, learned=content["learned"])
    if "source" in content:
        tokenizer.source = _from_content(content["source"], path)
    if "special_tokens" in content:
        tokenizer = WithSpecialTokens(tokenizer, content["special_tokens"])
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
