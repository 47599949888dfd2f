"""Files of rows: JSON, JSON Lines, CSV, TSV (each also as .gz) and Parquet, row by row with the place of each.

A row is keys and values, as the file has them. What a row is wrong in is said with file and line.
"""

import csv
import json
from collections.abc import Collection, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from lmexp.config.data import RowFilesConfig
from lmexp.data.file_text import FileText
from lmexp.data.files import kind
from lmexp.data.readers import json_lines, lines
from lmexp.errors import DataError, MissingPackageError

Row = dict[str, Any]
SUFFIXES = (".json", ".jsonl", ".csv", ".tsv", ".parquet")
LONGEST_CELL = 2**31 - 1


def read_rows(
    path: Path, config: RowFilesConfig, *, pair: Sequence[str], known: Collection[str]
) -> Iterator[tuple[str, Row]]:
    """Yield each row of a file and where it stands.

    Where the first line of a TSV file has no known name it is a row, and the columns are those of `pair`.

    Raises:
        DataError: the file cannot be read, saying at which line.
    """
    text, names = FileText(path, config), config.column_names
    if kind(path) == ".parquet":
        yield from _parquet(path)
    elif kind(path) == ".tsv":
        yield from _tsv(path, text, names, pair, {*known, *pair})
    elif kind(path) == ".csv":
        yield from _csv(path, text, names)
    elif kind(path) == ".jsonl":
        yield from _json_lines(path, text)
    elif kind(path) == ".json":
        yield from _json(path, text, known)
    else:
        raise DataError(f"{path}: not one of {', '.join(SUFFIXES)}; what a file holds is known by its name")


def _json(path: Path, text: Iterable[str], known: Collection[str]) -> Iterator[tuple[str, Row]]:
    """Yield the objects of a list, or of the one list in an object; a .json file may hold JSON Lines, too."""
    whole = "".join(text)
    try:
        value = json.loads(whole)
    except json.JSONDecodeError as error:
        if error.msg == "Extra data" and whole.lstrip().startswith("{"):
            yield from _json_lines(path, [whole])
            return
        raise DataError(f"{path}: line {error.lineno} is not JSON ({error.msg} at column {error.colno})") from None
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: is not JSON ({error})") from None
    lists = [value] if isinstance(value, list) else []
    if isinstance(value, dict) and any(key in value for key in known):
        lists = [[value]]
    elif isinstance(value, dict):
        lists = [inner for inner in value.values() if isinstance(inner, list) and inner and isinstance(inner[0], dict)]
    if len(lists) != 1:
        raise DataError(f"{path}: must hold a list of objects: [{{...}}, {{...}}]")
    for number, row in enumerate(lists[0], start=1):
        yield _placed(f"{path}: item {number}", row)


def _json_lines(path: Path, text: Iterable[str]) -> Iterator[tuple[str, Row]]:
    return (_placed(place, row) for place, row in json_lines(path, text))


def _placed(place: str, row: Any) -> tuple[str, Row]:
    if not isinstance(row, dict):
        raise DataError(f"{place} is no object with keys, but {json.dumps(row)[:40]}")
    return place, row


def _csv(path: Path, text: Iterable[str], names: Sequence[str]) -> Iterator[tuple[str, Row]]:
    csv.field_size_limit(LONGEST_CELL)
    reader = csv.reader(lines(text), strict=True)
    header = list(names) or None
    line = 1
    try:
        for cells in reader:
            place, line = f"{path}: line {line}", reader.line_num + 1
            if not cells:
                continue
            if header is None:
                header = [cell.strip() for cell in cells]
            elif len(cells) != len(header):
                raise DataError(f"{place} has {len(cells)} cells, and the header {len(header)}")
            else:
                yield place, dict(zip(header, cells, strict=True))
    except csv.Error as error:
        raise DataError(f"{path}: line {line} is not CSV ({error})") from None


def _tsv(
    path: Path, text: Iterable[str], names: Sequence[str], pair: Sequence[str], known: set[str]
) -> Iterator[tuple[str, Row]]:
    """Yield rows of cells between tabs, which no quotes are around; a first line with a known name is a header."""
    header: list[str] | None = None
    for number, line in enumerate(lines(text), start=1):
        cells = line.rstrip("\r\n").split("\t")
        if cells == [""]:
            continue
        if header is None:
            is_header = any(cell in known for cell in cells) and len(cells) != len(names)
            header = cells if is_header else list(names if len(cells) == len(names) else pair)
            if is_header:
                continue
        if len(cells) != len(header):
            raise DataError(f"{path}: line {number} has {len(cells)} cells between tabs, not {len(header)}")
        yield f"{path}: line {number}", dict(zip(header, cells, strict=True))


def _parquet(path: Path) -> Iterator[tuple[str, Row]]:
    try:
        import pyarrow
        from pyarrow.parquet import ParquetFile
    except ImportError:
        raise MissingPackageError("pyarrow", "hf") from None
    number = 0
    try:
        with ParquetFile(path) as file:
            for batch in file.iter_batches():
                for row in batch.to_pylist():
                    number += 1
                    yield f"{path}: row {number}", row
    except (pyarrow.ArrowException, OSError) as error:
        raise DataError(f"{path}: not a Parquet file, or a damaged one ({str(error).splitlines()[0]})") from None
