"""What a source of text must offer."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any

from lmexp.config.data import DataConfig
from lmexp.tokenization import Document

SPLITS = ("train", "val", "test")


class Source(ABC):
    """Documents in three splits."""

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
