"""From files to documents, with errors that say which file, which line and what to do."""

import codecs
import gzip
import hashlib
import json
import os
import re
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lmexp.config.data import DecodingErrors, Documents, TextConfig
from lmexp.errors import DataError

SUFFIXES = (".txt", ".md", ".jsonl")
BLANK_LINES = re.compile(r"\n(?:[^\S\n]*\n)+")
HALF_SURROGATES = re.compile("[\ud800-\udfff]")
REPLACEMENTS = {DecodingErrors.replace: "\ufffd", DecodingErrors.ignore: ""}
KEYS_SHOWN = 10


def find_files(pattern: str) -> list[Path]:
    """Return the text files that a path, a folder or a glob names, in the order of their names.

    Of a folder, hidden files are left out: copies of editors and resource forks of macOS. A link to nothing is taken,
    so that reading it fails, for text would be missing without it.

    Raises:
        DataError: there is none.
    """
    path = Path(pattern).expanduser()
    try:
        if path.is_file():
            return [path]
        if path.is_dir():
            found = [p for p in _walk(path) if kind(p) in SUFFIXES]
        else:
            found = list(Path(path.anchor).glob(str(path.relative_to(path.anchor))))
    except (OSError, ValueError) as error:
        where = getattr(error, "filename", None) or pattern
        raise DataError(f"{where}: cannot be read: {getattr(error, 'strerror', None) or error}") from None
    found = sorted(p for p in found if p.is_file() or (p.is_symlink() and not p.exists()))
    if not found and path.is_dir():
        raise DataError(f"{path}: the folder holds no {', '.join(SUFFIXES)} file (each also as .gz)")
    if not found:
        raise DataError(f"{pattern}: no file is there")
    return found


def read_bytes(path: Path) -> bytes:
    """Return the content of a file, unpacked when its name ends in .gz.

    Raises:
        DataError: it cannot be read, or its .gz is damaged.
    """
    with _opened(path) as file:
        return file.read()


def digest(path: Path) -> str:
    """Return the blake2b hash of what `read_bytes` returns, without holding it.

    Raises:
        DataError: it cannot be read, or its .gz is damaged.
    """
    with _opened(path) as file:
        return hashlib.file_digest(file, hashlib.blake2b).hexdigest()


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    try:
        with gzip.open(path, "rb") if path.suffix.lower() == ".gz" else open(path, "rb") as file:
            yield file
    except EOFError:
        raise DataError(f"{path}: the .gz file ends too early; it was cut off, copy or download it again") from None
    except (gzip.BadGzipFile, zlib.error) as error:
        raise DataError(f"{path}: not a gzip file, or a damaged one ({error})") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from None


def read_documents(path: Path, config: TextConfig) -> Iterator[str]:
    """Yield the documents of a file that have any text.

    Raises:
        DataError: it is not text in this encoding, or a line is not JSON with this key.
    """
    text = _decode(path, read_bytes(path), config)
    if kind(path) == ".jsonl":
        documents = _json_lines(path, text, config)
    elif config.documents is Documents.line:
        documents = (line.rstrip("\r") for line in text.split("\n"))
    elif config.documents is Documents.blank_line:
        documents = iter(BLANK_LINES.split(text))
    else:
        documents = iter([text])
    yield from (document for document in documents if document and not document.isspace())


def kind(path: Path) -> str:
    """Return the suffix of a file, that before .gz if it has both."""
    suffix = path.suffix.lower()
    return Path(path.stem).suffix.lower() if suffix == ".gz" else suffix


def _decode(path: Path, data: bytes, config: TextConfig) -> str:
    if b"\0" in data[:8192] and not codecs.lookup(config.encoding).name.startswith(("utf-16", "utf-32")):
        hint = "if it is UTF-16, set data.encoding=utf-16"
        raise DataError(f"{path}: a binary file, not text (it holds zero bytes); {hint}")
    try:
        text = data.decode(config.encoding, config.errors.name).removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise DataError(
            f"{path}: line {line}, offset {error.start}: byte 0x{data[error.start]:02x} is not {config.encoding}; "
            "set data.encoding (latin-1, cp1252, ...) or data.errors=replace"
        ) from None
    except UnicodeError as error:  # codecs such as idna that say no more
        raise DataError(f"{path}: is not {config.encoding} ({error}); set data.encoding") from None
    return _without_half_surrogates(path, text, config)


def _without_half_surrogates(path: Path, text: str, config: TextConfig, line: int | None = None) -> str:
    """Return Unicode text: JSON escapes and some encodings can write half a surrogate pair, which nothing can store."""
    half = HALF_SURROGATES.search(text)
    if half and config.errors is DecodingErrors.strict:
        line = line or text.count("\n", 0, half.start()) + 1
        found = f"half of a surrogate pair ({half[0]!r})"
        raise DataError(f"{path}: line {line}: the text holds {found}; set data.errors=replace or data.errors=ignore")
    return HALF_SURROGATES.sub(REPLACEMENTS[config.errors], text) if half else text


def _json_lines(path: Path, text: str, config: TextConfig) -> Iterator[str]:
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise DataError(f"{path}: line {number} is not JSON ({error.msg} at column {error.colno})") from None
        except (ValueError, RecursionError) as error:  # a number of thousands of digits, thousands of brackets
            raise DataError(f"{path}: line {number} is not JSON ({error})") from None
        value = row.get(config.text_key) if isinstance(row, dict) else None
        if not isinstance(value, str):
            hint = f"({_describe(row, config.text_key)}); set data.text_key"
            raise DataError(f"{path}: line {number} has no text under '{config.text_key}' {hint}")
        yield _without_half_surrogates(path, value, config, line=number)


def _describe(row: object, key: str) -> str:
    if not isinstance(row, dict):
        return "it is no object"
    if key in row:
        return f"its value is {json.dumps(row[key])[:40]}"
    more = ", ..." if len(row) > KEYS_SHOWN else ""
    return f"it has {', '.join(list(row)[:KEYS_SHOWN])}{more}" if row else "it has no keys"


def _walk(folder: Path) -> Iterator[Path]:
    def fail(error: OSError) -> None:
        raise error

    for root, folders, names in os.walk(folder, onerror=fail):
        folders[:] = [name for name in folders if not name.startswith(".")]
        yield from (Path(root, name) for name in names if not name.startswith("."))
