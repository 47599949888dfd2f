"""Text files of a user: .txt, .md and .jsonl, each also as .gz.

Which text is held out does not depend on the seed of a run, so runs with different seeds can be compared.
"""

import hashlib
from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lmexp.config.data import Documents, TextConfig
from lmexp.data.files import Files, kind
from lmexp.data.readers import SUFFIXES, read_documents
from lmexp.data.source import SPLITS
from lmexp.errors import DataError
from lmexp.tokenization import Document, pieces

FEW_DOCUMENTS = 100
SEPARATORS = {Documents.file: "", Documents.line: "\n", Documents.blank_line: "\n\n"}


class TextFiles(Files):
    """Documents from files."""

    config: TextConfig
    suffixes = SUFFIXES

    def __init__(self, config: TextConfig) -> None:
        super().__init__(config)
        self.separator = SEPARATORS[config.documents]

    def reader_of(self, path: Path) -> str:
        return ".jsonl" if kind(path) == ".jsonl" else ".txt"

    def documents(self, split: str) -> Iterator[Document]:
        if self.files[split] and split != "train":
            yield from self._read(split)
            return
        plan = self._plan
        for number, document in enumerate(self._read("train")):
            if number == len(plan.lengths):
                raise DataError(f"{self.config.path}: the text grew while it was read; start again when it is complete")
            first, last = plan.part_of(number, split)
            if (first, last) == (0, plan.lengths[number]):
                yield document
            elif first < last:
                yield Part(document, first, last)

    def _read(self, split: str) -> Iterator[Document]:
        for path in self.files[split]:
            yield from read_documents(path, self.config)

    @cached_property
    def _plan(self) -> "_Plan":
        """Which documents, or which characters, are held out for splits without files of their own."""
        fractions = {
            split: 0.0 if self.files[split] else getattr(self.config, f"{split}_fraction") for split in ("val", "test")
        }
        hashes, lengths = array("q"), array("q")
        for document in self._read("train"):
            content, length = hashlib.blake2b(digest_size=7), 0
            for piece in pieces(document):
                content.update(piece.encode())
                length += len(piece)
            hashes.append(int.from_bytes(content.digest(), "big"))
            lengths.append(length)
        if not lengths:
            raise DataError(f"{self.config.path}: there is no text in it, or only white space")
        return _Plan(np.array(hashes, dtype=np.int64), np.array(lengths, dtype=np.int64), fractions)


class _Plan:
    """Who goes where: the tail of the text when there are few documents, else documents by their content."""

    def __init__(self, hashes: NDArray[np.int64], lengths: NDArray[np.int64], fractions: dict[str, float]) -> None:
        total = int(lengths.sum())
        self.few = len(lengths) < FEW_DOCUMENTS
        self.lengths, self.starts = lengths, np.cumsum(lengths) - lengths
        end_of_val = int(total * (1 - fractions["test"]))
        end_of_train = int(total * round(1 - fractions["test"] - fractions["val"], 12))  # 0.9, and not 0.8999...
        self.borders = {"train": (0, end_of_train), "val": (end_of_train, end_of_val), "test": (end_of_val, total)}
        if not self.few:
            _, content_of_document = np.unique(hashes, return_inverse=True)
            shares = np.bincount(content_of_document, weights=lengths) / total
            self.split_of_document = _hold_out(shares, fractions)[content_of_document]

    def part_of(self, number: int, split: str) -> tuple[int, int]:
        """Return the characters of a document, first and last, that are in a split."""
        length, start = int(self.lengths[number]), int(self.starts[number])
        if not self.few:
            return (0, length) if SPLITS[self.split_of_document[number]] == split else (0, 0)
        first, last = self.borders[split]
        return max(0, first - start), min(length, last - start)


@dataclass(frozen=True)
class Part:
    """Some characters of a document, in pieces."""

    document: Document
    first: int
    last: int

    def __iter__(self) -> Iterator[str]:
        position = 0
        for piece in pieces(self.document):
            if part := piece[max(0, self.first - position) : max(0, self.last - position)]:
                yield part
            position += len(piece)
            if position >= self.last:
                return


def _hold_out(shares: NDArray[np.float64], fractions: dict[str, float]) -> NDArray[np.int8]:
    """Return the split of each content, given its share of the text; the contents come in the order of their hashes.

    Contents larger than the whole held-out share stay in train: one long book among letters would fill it.
    """
    splits = np.zeros(len(shares), dtype=np.int8)
    for split in ("val", "test"):
        wanted = fractions[split]
        free = np.flatnonzero(splits == 0)
        short = free[shares[free] <= wanted]
        if wanted and not len(short):
            raise DataError(
                f"no document is short enough for data.{split}_fraction={wanted:g} (the shortest is "
                f"{shares[free].min():.2g} of the text); set it higher or give data.{split}_path"
            )
        splits[short[: np.searchsorted(np.cumsum(shares[short]), wanted) + 1]] = SPLITS.index(split)
    return splits
