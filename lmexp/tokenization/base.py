"""What every tokenizer can do, and how one is learned, stored and loaded."""

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lmexp.config.schema import OPTIONS, build, built_class
from lmexp.config.store import option_from_dict, to_dict
from lmexp.config.tokenizer import TokenizerConfig
from lmexp.errors import DataError, RunError


class Tokenizer(ABC):
    """Text <-> ids.

    `learned` is all that a tokenizer takes from text, as JSON can hold it; with its config it makes the tokenizer.
    """

    vocab_size: int
    end_of_document_id: int | None

    def __init__(self, config: TokenizerConfig, *, learned: Any) -> None:
        self.config = config
        self.learned = learned

    @staticmethod
    @abstractmethod
    def learn(config: Any, texts: Iterable[str]) -> Any:
        """Return what the training texts teach.

        Raises:
            DataError: the texts cannot give such a tokenizer.
        """

    @abstractmethod
    def encode(self, text: str) -> NDArray[np.int64]:
        """Return the ids of a text, without an end-of-document token."""

    @abstractmethod
    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of the ids; special tokens are left out."""

    @cached_property
    def hash(self) -> str:
        """16 hexadecimal digits of what the tokenizer is; equal tokenizers have equal ids for every text."""
        text = json.dumps({"config": to_dict(self.config), "learned": self.learned}, sort_keys=True)
        return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()

    def save(self, path: Path) -> None:
        """Write the tokenizer as one JSON file."""
        content = {"format": 1, "hash": self.hash, "config": to_dict(self.config), "learned": self.learned}
        path.write_text(json.dumps(content, ensure_ascii=False, indent=1), encoding="utf-8")


def learn(config: TokenizerConfig, texts: Iterable[str]) -> Tokenizer:
    """Return a tokenizer learned from texts."""
    return build(config, learned=built_class(config).learn(config, map(require_unicode, texts)))


def load(path: Path) -> Tokenizer:
    """Return the tokenizer that `save` wrote.

    Raises:
        RunError: the file is missing, damaged or from another lmexp.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
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
