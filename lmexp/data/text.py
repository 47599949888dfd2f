"""Text files of a user: .txt, .md and .jsonl, each also as .gz.

Which text is held out does not depend on the seed of a run, so runs with different seeds can be compared.
"""

import hashlib
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lmexp.config.data import Documents, TextConfig
from lmexp.data.readers import find_files, read_bytes, read_documents
from lmexp.data.source import SPLITS, Source

FEW_DOCUMENTS = 100
NAMES_OF_SPLITS = {"train": "train", "val": "val", "valid": "val", "validation": "val", "dev": "val", "test": "test"}
SEPARATOR_BYTES = {Documents.file: 0, Documents.line: 1, Documents.blank_line: 2}


class TextFiles(Source):
    """Documents from files."""

    config: TextConfig

    def __init__(self, config: TextConfig) -> None:
        super().__init__(config)
        self.separator_bytes = SEPARATOR_BYTES[config.documents]

    @cached_property
    def files(self) -> dict[str, list[Path]]:
        """The files of each split; a split without files of its own is taken from those of train."""
        assert self.config.path is not None
        found = find_files(self.config.path)
        by_name = {split: [p for p in found if NAMES_OF_SPLITS.get(_stem(p)) == split] for split in SPLITS}
        if by_name["train"] and (by_name["val"] or by_name["test"]):
            files = by_name
        else:
            files = {"train": found, "val": [], "test": []}
        for split in ("val", "test"):
            own = getattr(self.config, f"{split}_path")
            if own is not None:
                files[split] = find_files(own)
                files["train"] = [path for path in files["train"] if path not in files[split]]
        return files

    @cached_property
    def fingerprint(self) -> str:
        digest = hashlib.blake2b(digest_size=8)
        for split, paths in self.files.items():
            for path in paths:
                content = hashlib.blake2b(read_bytes(path)).hexdigest()
                digest.update(f"{split} {content}\n".encode())
        return digest.hexdigest()

    def documents(self, split: str) -> Iterator[str]:
        if self.files[split] and split != "train":
            yield from self._read(split)
        elif self._plan.few:
            yield from self._part_of_text(split)
        else:
            wanted = SPLITS.index(split)
            documents = zip(self._read("train"), self._plan.split_of_document, strict=True)
            yield from (text for text, index in documents if index == wanted)

    def _read(self, split: str) -> Iterator[str]:
        for path in self.files[split]:
            yield from read_documents(path, self.config)

    def _part_of_text(self, split: str) -> Iterator[str]:
        """Yield the part of the text, counted in characters, that belongs to a split."""
        first, last = self._plan.borders[split]
        position = 0
        for text in self._read("train"):
            part = text[max(0, first - position) : max(0, last - position)]
            position += len(text)
            if part:
                yield part

    @cached_property
    def _plan(self) -> "_Plan":
        """Which documents, or which characters, are held out for splits without files of their own."""
        fractions = {
            split: 0.0 if self.files[split] else getattr(self.config, f"{split}_fraction") for split in ("val", "test")
        }
        hashes, lengths = [], []
        for text in self._read("train"):
            hashes.append(int.from_bytes(hashlib.blake2b(text.encode(), digest_size=7).digest(), "big"))
            lengths.append(len(text))
        return _Plan(np.array(hashes, dtype=np.int64), np.array(lengths, dtype=np.int64), fractions)


class _Plan:
    """Who goes where: the tail of the text when there are few documents, else documents by their content."""

    def __init__(self, hashes: NDArray[np.int64], lengths: NDArray[np.int64], fractions: dict[str, float]) -> None:
        total = int(lengths.sum())
        self.few = len(lengths) < FEW_DOCUMENTS
        end_of_val = int(total * (1 - fractions["test"]))
        end_of_train = int(total * (1 - fractions["test"] - fractions["val"]))
        self.borders = {"train": (0, end_of_train), "val": (end_of_train, end_of_val), "test": (end_of_val, total)}
        order = np.argsort(hashes, kind="stable")
        ends = np.cumsum(lengths[order])
        self.split_of_document = np.zeros(len(lengths), dtype=np.int8)
        cut = 0
        for split in ("val", "test"):
            wanted = total * fractions[split]
            if not wanted:
                continue
            start, cut = cut, int(np.searchsorted(ends, (ends[cut - 1] if cut else 0) + wanted)) + 1
            while cut < len(order) and hashes[order[cut]] == hashes[order[cut - 1]]:
                cut += 1  # equal documents stay together
            self.split_of_document[order[start:cut]] = SPLITS.index(split)


def _stem(path: Path) -> str:
    return path.name.split(".")[0].lower()

