"""Texts with labels: from rows, from a file a label, or from a folder a label.

The labels are those of the training split, numbers in their order and names in that of the alphabet; a label that only
a held-out split has is an error, for nothing could learn it.
"""

from abc import abstractmethod
from collections.abc import Iterable, Iterator
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from lmexp.config.labels import LabelFrom, LabelledConfig
from lmexp.data.examples import AT_ONCE
from lmexp.data.file_text import FileText, without_half_surrogates
from lmexp.data.readers import lines
from lmexp.data.row_files import RowFiles, cell
from lmexp.data.rows import SUFFIXES, Row
from lmexp.data.source import Source
from lmexp.errors import DataError
from lmexp.tokenization import Tokenizer, token_files
from lmexp.tokenization.token_files import SplitCounts

TEXTS = ("text", "sentence", "review", "content")
LABELS = ("label", "class", "category", "sentiment")
LABELS_SHOWN = 10


class LabelledText(NamedTuple):
    """A text, its label, and where it stands."""

    text: str
    label: str
    place: str


class Texts(Source):
    """Texts with labels in three splits."""

    @abstractmethod
    def texts(self, split: str) -> Iterator[LabelledText]:
        """Yield the texts of a split, always in the same order.

        Raises:
            DataError: a file cannot be read, or a row has no text or no label.
        """

    @cached_property
    def labels(self) -> tuple[str, ...]:  # type: ignore[override]
        """The labels of the training split, in order."""
        found = sorted({one.label for one in self.texts("train")}, key=_order)
        if len(found) < 2:
            raise DataError(f"the texts to learn from have one label, {found[0]}: there is nothing to tell apart")
        return tuple(found)

    def documents(self, split: str) -> Iterator[str]:
        for one in self.texts(split):
            yield one.text

    def write(self, folder: Path, split: str, tokenizer: Tokenizer) -> SplitCounts:
        return token_files.write_labelled(folder, split, self._encoded(split, tokenizer), tokenizer.vocab_size)

    def _encoded(self, split: str, tokenizer: Tokenizer) -> Iterator[tuple[NDArray[np.int64], int]]:
        waiting, number_of = iter(self.texts(split)), {label: number for number, label in enumerate(self.labels)}
        while batch := list(islice(waiting, AT_ONCE)):
            for one, ids in zip(
                batch,
                text_ids([one.text for one in batch], tokenizer, has_end=self.config.end_of_document),
                strict=True,
            ):
                if one.label not in number_of:
                    shown = ", ".join(self.labels[:LABELS_SHOWN])
                    raise DataError(
                        f"{one.place}: no text to learn from has the label {one.label!r}; they have {shown}"
                    )
                yield ids, number_of[one.label]


def text_ids(texts: Iterable[str], tokenizer: Tokenizer, *, has_end: bool) -> Iterator[NDArray[np.int64]]:
    """Yield texts as a model reads them that tells their labels: with the tokens that begin and end a text.

    Raises:
        DataError: the tokenizer cannot spell one, or it has no token at all.
    """
    first = [] if tokenizer.begin_of_text_id is None else [tokenizer.begin_of_text_id]
    last = [tokenizer.end_of_document_id] if has_end and tokenizer.end_of_document_id is not None else []
    for ids in tokenizer.encode_literally(list(texts)):
        whole = np.concatenate((first, ids, last)).astype(np.int64)
        if not len(whole):
            raise DataError("a text has no tokens; leave it out, or set data.end_of_document=true")
        yield whole


def _order(label: str) -> tuple[float, str]:
    try:
        return float(label), label
    except ValueError:
        return float("inf"), label


class Labelled(Texts, RowFiles):
    """Texts with labels from files of a user."""

    config: LabelledConfig
    examples_are = "texts"
    pair = ("text", "label")
    known = (*TEXTS, *LABELS)

    @property
    def suffixes(self) -> tuple[str, ...]:  # type: ignore[override]
        """The formats that are taken from a folder."""
        return SUFFIXES if self.config.label_from is LabelFrom.column else (".txt",)

    def texts(self, split: str) -> Iterator[LabelledText]:
        return self.examples(split)

    def content_of(self, example: LabelledText) -> str:
        return example.text

    def read(self, split: str) -> Iterator[LabelledText]:
        of_files = {LabelFrom.file: self._of_lines, LabelFrom.folder: self._of_folders}
        read = of_files.get(self.config.label_from, self._of_rows)
        for text, label, place in read(split):
            label = self.config.label_names.get(label.strip(), label.strip())
            if not label:
                raise DataError(f"{place}: the label is empty")
            yield LabelledText(without_half_surrogates(text, self.config, place), label, place)

    def reader_of(self, path: Path) -> str:
        return super().reader_of(path) if self.config.label_from is LabelFrom.column else str(self.config.label_from)

    def _of_rows(self, split: str) -> Iterator[LabelledText]:
        for place, row in self.rows(split):
            yield LabelledText(self._text(row, place), cell(row, place, "label", LABELS, self.config.columns), place)

    def _text(self, row: Row, place: str) -> str:
        if not self.config.text_columns:
            return cell(row, place, "text", TEXTS, self.config.columns)
        return "\n".join(cell(row, place, "text", (name,), {}) for name in self.config.text_columns)

    def _of_lines(self, split: str) -> Iterator[LabelledText]:
        for path, label in zip(self.files[split], _distinct(self.files[split]), strict=True):
            for number, line in enumerate(lines(FileText(path, self.config)), start=1):
                if line.strip():
                    yield LabelledText(line.strip(), label, f"{path}: line {number}")

    def _of_folders(self, split: str) -> Iterator[LabelledText]:
        for path in self.files[split]:
            yield LabelledText("".join(FileText(path, self.config)).strip(), path.parent.name, str(path))


def _distinct(paths: list[Path]) -> list[str]:
    """Return the parts of the names that are not in all of them.

    Example:
        >>> _distinct([Path("rt-polarity.neg"), Path("rt-polarity.pos")])
        ['neg', 'pos']
    """
    parts = [path.name.split(".") for path in paths]
    common = set.intersection(*map(set, parts)) if len(parts) > 1 else {"txt"}
    return [".".join(part for part in name if part not in common) or ".".join(name) for name in parts]
