"""A split of a corpus as one file of ids, with the start of every document beside it.

`train.bin` holds the ids as uint16, or uint32 for vocabularies above 65,536; `train.documents.npy` the positions at
which documents begin; of conversations `train.learned.bin` says of each id whether it is learned. All are
memory-mapped, so a split may be larger than memory.
"""

import dataclasses
from array import array
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from lmexp.errors import DataError, StorageError
from lmexp.tokenization.base import STRETCH_CHARACTERS, Document, Tokenizer, pieces


@dataclass(frozen=True)
class SplitCounts:
    """How large a split is."""

    tokens: int
    documents: int
    bytes: int
    """Bytes of the text as UTF-8, with the separators that end-of-document tokens stand for; of conversations those of
    what is learned."""
    learned: int | None = None
    """Of conversations, and of targets, the tokens that are learned."""
    labelled: int | None = None
    """Of texts with labels how many there are."""


@dataclass(frozen=True)
class TokenFile:
    """The ids of a split, memory-mapped."""

    ids: NDArray[np.unsignedinteger]
    document_starts: NDArray[np.int64]
    counts: SplitCounts
    is_learned: NDArray[np.bool_] | None = None
    """Of conversations, and of targets, which ids are learned."""
    labels: NDArray[np.int32] | None = None
    """Of texts with labels, the number of each one's label."""


class Example(Protocol):
    """A document of which only a part is learned."""

    @property
    def ids(self) -> NDArray[np.int64]: ...
    @property
    def is_learned(self) -> NDArray[np.bool_]: ...
    @property
    def learned_bytes(self) -> int: ...


def write(
    folder: Path,
    split: str,
    documents: Iterable[Document],
    tokenizer: Tokenizer,
    *,
    end_of_document: bool,
    separator: str = "",
) -> SplitCounts:
    """Tokenize documents into files in a folder and return their counts.

    `separator` stood between the documents; the end-of-document token stands for it, or else it stays in the text.

    Raises:
        DataError: the tokenizer has no end-of-document token, or cannot encode a document.
    """
    if end_of_document and tokenizer.end_of_document_id is None:
        raise DataError(
            "data.end_of_document=true, but the tokenizer has no such token; set data.end_of_document=false or "
            "tokenizer.end_of_document=true"
        )
    dtype = _dtype(tokenizer.vocab_size)
    end = np.array([tokenizer.end_of_document_id] if end_of_document else [], dtype=dtype)
    starts, start, num_tokens, num_bytes = array("q"), 0, 0, 0
    with open(folder / f"{split}.bin", "wb") as file:
        for batch in _batches(documents, tokenizer, tail="" if end_of_document else separator):
            encoded = iter(tokenizer.encode_all([stretch for stretch in batch if stretch is not None]))
            for stretch in batch:
                ids = end if stretch is None else next(encoded).astype(dtype)
                file.write(ids.tobytes())
                num_tokens += len(ids)
                if stretch is None:
                    starts.append(start)
                    start = num_tokens
                    num_bytes += len(separator) if end_of_document else 0
                else:
                    num_bytes += len(stretch.encode())
    np.save(folder / f"{split}.documents.npy", np.array(starts, dtype=np.int64))
    return SplitCounts(tokens=num_tokens, documents=len(starts), bytes=num_bytes)


def write_examples(folder: Path, split: str, examples: Iterable[Example], vocab_size: int) -> SplitCounts:
    """Write examples into files in a folder and return their counts."""
    dtype = _dtype(vocab_size)
    starts, num_tokens, num_learned, num_bytes = array("q"), 0, 0, 0
    with open(folder / f"{split}.bin", "wb") as ids, open(folder / f"{split}.learned.bin", "wb") as learned:
        for example in examples:
            starts.append(num_tokens)
            ids.write(example.ids.astype(dtype).tobytes())
            learned.write(example.is_learned.tobytes())
            num_tokens += len(example.ids)
            num_learned += int(example.is_learned.sum())
            num_bytes += example.learned_bytes
    np.save(folder / f"{split}.documents.npy", np.array(starts, dtype=np.int64))
    return SplitCounts(tokens=num_tokens, documents=len(starts), bytes=num_bytes, learned=num_learned)


def write_labelled(
    folder: Path, split: str, texts: Iterable[tuple[NDArray[np.int64], int]], vocab_size: int
) -> SplitCounts:
    """Write texts with the numbers of their labels into files in a folder and return their counts."""
    dtype = _dtype(vocab_size)
    starts, labels, num_tokens = array("q"), array("i"), 0
    with open(folder / f"{split}.bin", "wb") as file:
        for ids, label in texts:
            starts.append(num_tokens)
            labels.append(label)
            file.write(ids.astype(dtype).tobytes())
            num_tokens += len(ids)
    np.save(folder / f"{split}.documents.npy", np.array(starts, dtype=np.int64))
    (folder / f"{split}.labels.bin").write_bytes(np.array(labels, dtype=np.int32).tobytes())
    return SplitCounts(tokens=num_tokens, documents=len(starts), bytes=0, labelled=len(labels))


def _batches(documents: Iterable[Document], tokenizer: Tokenizer, *, tail: str) -> Iterator[list[str | None]]:
    """Yield stretches, some megabytes at once, for a tokenizer to divide among its threads; None ends a document."""
    batch: list[str | None] = []
    size = 0
    for document in documents:
        for stretch in tokenizer.stretches(chain(pieces(document), [tail])):
            batch.append(stretch)
            size += len(stretch)
            if size >= STRETCH_CHARACTERS:
                yield batch
                batch, size = [], 0
        batch.append(None)
    yield batch


def read(folder: Path, split: str, counts: SplitCounts, vocab_size: int) -> TokenFile:
    """Return the files that `write` wrote, memory-mapped.

    Raises:
        StorageError: a file is missing or is not as long as it was.
    """
    dtype = np.dtype(_dtype(vocab_size))
    try:
        starts = np.load(folder / f"{split}.documents.npy", mmap_mode="r", allow_pickle=False)
        ids = _mapped(folder / f"{split}.bin", dtype, counts.tokens)
        is_learned = labels = None
        if counts.learned is not None:
            is_learned = _mapped(folder / f"{split}.learned.bin", np.dtype(np.bool_), counts.tokens)
        if counts.labelled is not None:
            labels = _mapped(folder / f"{split}.labels.bin", np.dtype(np.int32), counts.labelled)
    except (OSError, ValueError, EOFError) as error:
        raise StorageError(f"{folder}: the tokenized text is damaged ({error}); delete it to make it anew") from None
    if len(starts) != counts.documents:
        raise StorageError(
            f"{folder}: the tokenized text is damaged (documents are missing); delete it to make it anew"
        )
    return TokenFile(ids=ids, document_starts=starts, counts=counts, is_learned=is_learned, labels=labels)


def _mapped(path: Path, dtype: np.dtype[Any], count: int) -> NDArray[Any]:
    if path.stat().st_size != count * dtype.itemsize:
        raise StorageError(f"{path} is not as long as it was written; delete the folder {path.parent} to make it anew")
    return np.memmap(path, dtype=dtype, mode="r") if count else np.empty(0, dtype)


def as_dict(counts: SplitCounts) -> dict[str, int]:
    """Return the counts for a manifest."""
    return {key: count for key, count in dataclasses.asdict(counts).items() if count is not None}


def _dtype(vocab_size: int) -> type[np.unsignedinteger]:
    return np.uint16 if vocab_size <= 2**16 else np.uint32
