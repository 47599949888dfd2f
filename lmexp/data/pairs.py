"""Pairs of texts, of which the second is written from the first: from rows, or from two files side by side.

A source is read with the token that ends a document after it; a target is written between two such tokens.
"""

import hashlib
from abc import abstractmethod
from collections.abc import Iterable, Iterator
from itertools import islice, zip_longest
from pathlib import Path
from typing import NamedTuple

import numpy as np

from lmexp.config.pairs import PairsConfig
from lmexp.data.examples import AT_ONCE, Example
from lmexp.data.file_text import FileText, digest, without_half_surrogates
from lmexp.data.readers import lines
from lmexp.data.row_files import RowFiles, cell
from lmexp.data.source import Source
from lmexp.errors import DataError
from lmexp.tokenization import Tokenizer, learn, token_files
from lmexp.tokenization.token_files import SplitCounts

SOURCES = ("source", "src", "document", "article", "prompt", "input")
TARGETS = ("target", "tgt", "summary", "completion", "output")


class Pair(NamedTuple):
    """What is read, and what is written from it."""

    source: str
    target: str


class TextPairs(Source):
    """Pairs in three splits."""

    @abstractmethod
    def pairs(self, split: str) -> Iterator[Pair]:
        """Yield the pairs of a split, always in the same order.

        Raises:
            DataError: a file cannot be read, or a row is no pair.
        """

    def documents(self, split: str) -> Iterator[str]:
        """Yield all texts, to learn a tokenizer from; the targets alone where the sources have one of their own."""
        for pair in self.pairs(split):
            yield from [pair.target] if self.config.separate_tokenizers else pair

    def fitting(self, tokenizer: Tokenizer) -> Tokenizer:
        is_learned = tokenizer.config.is_learned and tokenizer.source is None
        if self.config.separate_tokenizers and is_learned:
            tokenizer.source = learn(tokenizer.config, (pair.source for pair in self.pairs("train")))
        return tokenizer

    def write(self, folder: Path, split: str, tokenizer: Tokenizer) -> SplitCounts:
        return token_files.write_examples(folder, split, encode(self.pairs(split), tokenizer), tokenizer.num_ids)


def encode(pairs: Iterable[Pair], tokenizer: Tokenizer) -> Iterator[Example]:
    """Yield a source and its target in turn, as a model reads them.

    Raises:
        DataError: the tokenizer has no token that ends a document, or cannot spell a text.
    """
    waiting, of_sources = iter(pairs), tokenizer.source or tokenizer
    while batch := list(islice(waiting, AT_ONCE)):
        sources = of_sources.encode_literally([pair.source for pair in batch])
        targets = tokenizer.encode_literally([pair.target for pair in batch])
        for pair, source_ids, target_ids in zip(batch, sources, targets, strict=True):
            source = source_of(source_ids, tokenizer)
            yield Example(ids=source, is_learned=np.zeros(len(source), dtype=np.bool_), learned_bytes=0)
            end = np.array([tokenizer.end_of_document_id], dtype=np.int64)
            target = np.concatenate((end, target_ids, end))
            yield Example(target, np.arange(len(target)) > 0, learned_bytes=len(pair.target.encode()))


def source_of(ids: np.ndarray, tokenizer: Tokenizer) -> np.ndarray:
    """Return a source as a model reads it: with the tokens that begin and end a text.

    Raises:
        DataError: the tokenizer has no token that ends a document.
    """
    tokenizer = tokenizer.source or tokenizer
    if tokenizer.end_of_document_id is None:
        raise DataError("the tokenizer has no token that ends a document, and a target must end: take another")
    first = [] if tokenizer.begin_of_text_id is None else [tokenizer.begin_of_text_id]
    return np.concatenate((first, ids, [tokenizer.end_of_document_id])).astype(np.int64)


class Pairs(TextPairs, RowFiles):
    """Pairs from files of a user."""

    config: PairsConfig
    examples_are = "pairs"
    pair = ("source", "target")
    known = (*SOURCES, *TARGETS)

    def pairs(self, split: str) -> Iterator[Pair]:
        return self.examples(split)

    def content_of(self, example: Pair) -> str:
        """Return the source, so that it is on one side with all that is written from it."""
        return example.source

    def read(self, split: str) -> Iterator[Pair]:
        for place, pair in self._side_by_side(split) if self._has_two_files(split) else self._of_rows(split):
            yield Pair(*(without_half_surrogates(text.strip(), self.config, place) for text in pair))

    @property
    def fingerprint(self) -> str:
        """That of the rows, with the files beside them."""
        beside = [path for key in ("", "val_", "test_") if (path := getattr(self.config, f"{key}target_path"))]
        if not beside:
            return super().fingerprint
        whole = "".join([super().fingerprint, *(digest(Path(path).expanduser()) for path in beside)])
        return hashlib.blake2b(whole.encode(), digest_size=8).hexdigest()

    def reader_of(self, path: Path) -> str:
        return ".txt" if self.config.target_path is not None else super().reader_of(path)

    def _of_rows(self, split: str) -> Iterator[tuple[str, Pair]]:
        names = self.config.columns
        for place, row in self.rows(split):
            source = cell(row, place, "source", SOURCES, names)
            yield place, Pair(source, cell(row, place, "target", TARGETS, names))

    def _has_two_files(self, split: str) -> bool:
        return self.config.target_path is not None and (split == "train" or self._has(split))

    def _side_by_side(self, split: str) -> Iterator[tuple[str, Pair]]:
        prefix = "" if split == "train" else f"{split}_"
        beside = Path(getattr(self.config, f"{prefix}target_path")).expanduser()
        (path,) = self.files[split][:1]
        both = (_lines(FileText(file, self.config)) for file in (path, beside))
        for number, (source, target) in enumerate(zip_longest(*both), start=1):
            if source is None or target is None:
                short, long = (path, beside) if source is None else (beside, path)
                raise DataError(f"{short} has {number - 1:,} lines, and {long}, which stands beside it, has more")
            yield f"{path}: line {number}", Pair(source, target)


def _lines(text: Iterable[str]) -> Iterator[str]:
    """Yield the lines; what is after the last line end is one if there is anything."""
    held: str | None = None
    for line in lines(text):
        if held is not None:
            yield held
        held = line.rstrip("\r\n") if line.endswith(("\n", "\r")) or line else None
    if held is not None:
        yield held
