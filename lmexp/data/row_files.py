"""Examples from files of rows or from a data set of Hugging Face, and which of them are held out.

That does not depend on the seed of a run, so runs with different seeds can be compared.
"""

import hashlib
from abc import abstractmethod
from collections.abc import Iterator
from functools import cached_property
from typing import Any, ClassVar

from lmexp.config.data import RowFilesConfig
from lmexp.data.files import Files
from lmexp.data.hub import Dataset, fingerprint_of, load_dataset, rows_of
from lmexp.data.rows import SUFFIXES, Row, read_rows
from lmexp.data.source import SPLITS
from lmexp.errors import DataError


class RowFiles(Files):
    """Examples, each made of a row or of a part of one."""

    config: RowFilesConfig
    suffixes = SUFFIXES
    examples_are: ClassVar[str]
    """What people call them: conversations."""
    pair: ClassVar[tuple[str, str]]
    """The columns of a TSV file whose first line names none, by their usual names."""
    known: ClassVar[tuple[str, ...]]
    """What a column, or key, may be called."""

    @cached_property
    def fingerprint(self) -> str:
        return super().fingerprint if self.config.dataset is None else fingerprint_of(self._dataset)

    @abstractmethod
    def read(self, split: str) -> Iterator[Any]:
        """Yield every example in the files of a split.

        Raises:
            DataError: a row is none.
        """

    @abstractmethod
    def content_of(self, example: Any) -> str:
        """Return that by which examples are the same, so that they are never on both sides of a split."""

    def examples(self, split: str) -> Iterator[Any]:
        """Yield the examples of a split, always in the same order."""
        has_own = split != "train" and self._has(split)
        splits = [] if has_own else self._split_of
        for number, example in enumerate(self.read(split if has_own else "train")):
            if has_own or splits[number] == split:
                yield example

    @cached_property
    def _split_of(self) -> list[str]:
        """The split of each example of the training files."""
        contents = [_digest(self.content_of(example)) for example in self.read("train")]
        if not contents:
            raise DataError(f"{self._name}: there is nothing in it; give a file with rows")
        different = sorted(set(contents))
        splits: dict[str, str] = {}
        first = 0
        for split in SPLITS[1:]:
            fraction = 0.0 if self._has(split) else getattr(self.config, f"{split}_fraction")
            last = first + (max(1, round(fraction * len(different))) if fraction else 0)
            splits |= dict.fromkeys(different[first:last], split)
            first = last
        if first >= len(different):
            raise DataError(
                f"{self._name}: {len(contents)} {self.examples_are}, {len(different)} of them different, are too few "
                "to hold some out; add some, or give data.val_path and data.test_fraction=0"
            )
        return [splits.get(content, "train") for content in contents]

    def rows(self, split: str) -> Iterator[tuple[str, Row]]:
        """Yield where each row of the files of a split stands, and the row."""
        if self.config.dataset is not None:
            yield from rows_of(self._dataset, split)
            return
        pair = tuple(self.config.columns.get(name, name) for name in self.pair)
        for path in self.files[split]:
            yield from read_rows(path, self.config, pair=pair, known={*self.known, *self.config.columns.values()})

    @property
    def _name(self) -> str | None:
        return self.config.path or self.config.dataset

    def _has(self, split: str) -> bool:
        """Return whether a split has rows of its own."""
        return bool(self.files[split]) if self.config.dataset is None else split in self._dataset

    @cached_property
    def _dataset(self) -> Dataset:
        assert self.config.dataset is not None
        return load_dataset(self.config.dataset)


def _digest(content: str) -> str:
    return hashlib.blake2b(content.encode(errors="surrogatepass"), digest_size=8).hexdigest()


def cell(row: Row, place: str, usual: str, names: tuple[str, ...], columns: dict[str, str]) -> str:
    """Return the text in a column: the one that `data.columns` names, else the first of these names that is there.

    Raises:
        DataError: there is no such column, or it holds no text.
    """
    name = columns.get(usual) or next((name for name in names if name in row), None)
    if name is None or name not in row:
        wanted = f"'{name}'" if name else " or ".join(names)
        shown = ", ".join(list(map(str, row))[:10])
        raise DataError(
            f"{place} has no column {wanted} (it has {shown}); name yours: data.columns.{usual}=NAME, or where the "
            "first line is a row already: data.column_names=[...]"
        )
    value = row[name]
    if isinstance(value, bool | int | float):
        return str(value)
    if not isinstance(value, str):
        raise DataError(f"{place}: {name} holds no text, but {str(value)[:40]}")
    return value
