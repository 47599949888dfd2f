"""What a corpus is made from: files of any supported format, or a data set of Hugging Face."""

import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lmexp.config.corpus import DatasetCorpusConfig, FilesCorpusConfig
from lmexp.corpus.opened import Report, suffix_of
from lmexp.corpus.readers import KEPT, TEXT_KEYS, Extracted, Reader
from lmexp.errors import DataError, MissingPackageError

ROWS_AT_ONCE = 2_000


@dataclass(frozen=True)
class Input:
    """One thing that documents are read from: a file, or some rows of a data set."""

    source: str
    name: str
    """What the card calls it: the path below that of its source."""
    where: str
    num_bytes: int
    digest: str


class Files:
    """Documents from files."""

    def __init__(self, config: FilesCorpusConfig) -> None:
        self.config = config
        self._reader = Reader(config.extract)

    def inputs(self) -> list[Input]:
        """Return every file of every source, those in formats that are not read here too.

        Raises:
            DataError: a source is not there, or no file can be read.
        """
        found = [
            Input(source, name, str(path), _size(path), digest_of(path))
            for source, where in self.config.paths.items()
            for name, path in _files(where)
        ]
        if not any(is_read(one) for one in found):
            places = ", ".join(self.config.paths.values())
            formats = " ".join(self.config.FORMATS)
            what = f"holds none of them ({len(found)} files)" if found else "is empty"
            raise DataError(f"{places}: {what}; supported are {formats}, each also as .gz, .bz2, .xz or .zst")
        return found

    def license_of(self, source: str) -> str | None:
        """Return the terms of a source."""
        return self.config.licenses.get(source, self.config.license)

    def read(self, one: Input, report: Report) -> Iterator[Extracted]:
        """Yield the documents of an input, articles of MediaWiki in their markup.

        Raises:
            DataError: from here on nothing can be read of it.
        """
        return self._reader.found(Path(one.where), report)

    def close(self) -> None:
        """End what was started for reading."""
        self._reader.close()


class Dataset:
    """Documents from a data set of Hugging Face, read with their library."""

    def __init__(self, config: DatasetCorpusConfig) -> None:
        self.config = config
        self._loaded: Any = None

    def inputs(self) -> list[Input]:
        """Return the rows of the split, some thousand at once.

        Raises:
            DataError: it cannot be read.
        """
        rows = self._rows
        name = str(self.config.dataset).rstrip("/").rpartition("/")[2].partition(":")[0]
        parts = range(0, len(rows), ROWS_AT_ONCE)
        size = int(getattr(rows, "dataset_size", 0) or 0) // max(1, len(parts))
        return [
            Input(name, f"{self.config.dataset_split}[{first}:]", str(first), size, f"{rows._fingerprint} {first}")
            for first in parts
        ]

    def license_of(self, source: str) -> str | None:
        """Return the terms of the data set: those given, or those that it names."""
        return self.config.license or str(self._rows.info.license or "") or None

    def read(self, one: Input, report: Report) -> Iterator[Extracted]:
        """Yield the documents of some rows."""
        rows, first = self._rows, int(one.where)
        keys = (self.config.extract.text_key,) if self.config.extract.text_key else TEXT_KEYS
        key = next((key for key in keys if key in rows.column_names), None)
        if key is None:
            has = ", ".join(rows.column_names)
            raise DataError(f"has no column {' or '.join(map(str, keys))} ({has}); set corpus.extract.text_key")
        for number, row in enumerate(rows.select(range(first, min(first + ROWS_AT_ONCE, len(rows)))), start=first + 1):
            text = row[key] if isinstance(row[key], str) else "\n".join(map(str, row[key] or ()))
            if text and not text.isspace():
                yield Extracted(
                    f"row {number}",
                    text,
                    {KEPT[name]: str(row[name]) for name in KEPT if isinstance(row.get(name), str | int)},
                )

    def close(self) -> None:
        """Nothing was started."""

    @property
    def _rows(self) -> Any:
        if self._loaded is None:
            try:
                import datasets
            except ModuleNotFoundError:
                raise MissingPackageError("datasets", "hf") from None
            folder = Path(str(self.config.dataset)).expanduser()
            name, _, variant = (str(folder), "", "") if folder.exists() else str(self.config.dataset).partition(":")
            try:
                datasets.disable_progress_bars()
                if (folder / "dataset_info.json").exists() or (folder / "dataset_dict.json").exists():
                    self._loaded = datasets.load_from_disk(str(folder))
                    if isinstance(self._loaded, datasets.DatasetDict):
                        self._loaded = self._loaded[self.config.dataset_split]
                else:
                    self._loaded = datasets.load_dataset(name, variant or None, split=self.config.dataset_split)
            except Exception as error:  # whatever a file or a network leads to inside the library
                reason = str(error).strip().split("\n")[0] or type(error).__name__
                raise DataError(f"corpus.dataset={self.config.dataset} cannot be read: {reason}") from None
        return self._loaded


def is_read(one: Input) -> bool:
    """Return whether the format of a file is read here."""
    return suffix_of(Path(one.where)) in FilesCorpusConfig.FORMATS or one.where.isdigit()


def _files(where: str) -> list[tuple[str, Path]]:
    """Return the files of a path, folder or glob, each with its name; hidden ones are left out."""
    path = Path(where).expanduser()
    if path.is_file():
        return [(path.name, path)]
    if path.is_dir():
        walked = (Path(root, name) for root, folders, names in _walk(path) for name in names)
        return sorted((str(file.relative_to(path)), file) for file in walked if not file.is_dir())
    found = sorted(file for file in Path(path.anchor).glob(str(path.relative_to(path.anchor))) if not file.is_dir())
    if not found:
        raise DataError(f"{where}: no file is there")
    return [(str(file), file) for file in found]


def _walk(folder: Path) -> Iterator[tuple[str, list[str], list[str]]]:
    for root, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield root, folders, [name for name in names if not name.startswith(".")]


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:  # a link to nothing: reading it says so
        return 0


def digest_of(path: Path) -> str:
    """Return a hash of the content of a file, or why there is none."""
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()
    except OSError as error:
        return f"cannot be read: {error.strerror}"
