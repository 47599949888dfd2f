"""What a source of examples must offer."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from lmexp.config.data import DataConfig
from lmexp.tokenization import Document, Tokenizer, token_files
from lmexp.tokenization.token_files import SplitCounts

SPLITS = ("train", "val", "test")


class Source(ABC):
    """Documents in three splits."""

    labels: Sequence[str] = ()
    """What the labels are called, where texts have some."""
    separator = ""
    """What stood between two documents in the original text; an end-of-document token stands for it."""

    def __init__(self, config: DataConfig) -> None:
        self.config: Any = config

    @property
    @abstractmethod
    def fingerprint(self) -> str:
        """16 hexadecimal digits of the content: equal for equal text, wherever it lies."""

    @abstractmethod
    def documents(self, split: str) -> Iterator[Document]:
        """Yield the documents of a split, always in the same order.

        Raises:
            DataError: a file cannot be read as text.
        """

    def fitting(self, tokenizer: Tokenizer) -> Tokenizer:
        """Return the tokenizer with the special tokens that these documents need."""
        return tokenizer

    def write(self, folder: Path, split: str, tokenizer: Tokenizer) -> SplitCounts:
        """Tokenize a split into files in a folder and return its counts.

        Raises:
            DataError: a document cannot be read, or the tokenizer cannot encode it.
        """
        return token_files.write(
            folder,
            split,
            self.documents(split),
            tokenizer,
            end_of_document=self.config.end_of_document,
            separator=self.separator,
        )
