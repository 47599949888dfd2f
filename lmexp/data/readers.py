"""From files to documents, with errors that say which file, which line and what to do."""

import gzip
import json
import re
import zlib
from collections.abc import Iterator
from pathlib import Path

from lmexp.config.data import Documents, TextConfig
from lmexp.errors import DataError

SUFFIXES = (".txt", ".md", ".jsonl")
BLANK_LINES = re.compile(r"\n[^\S\n]*\n\s*")


def find_files(pattern: str) -> list[Path]:
    """Return the text files that a path, a folder or a glob names, in the order of their names.

    Raises:
        DataError: there is none.
    """
    path = Path(pattern).expanduser()
    if path.is_file():
        return [path]
    if path.is_dir():
        found = [p for p in path.rglob("*") if p.is_file() and _is_text(p)]
        kinds = ", ".join(SUFFIXES)
        if not found:
            raise DataError(f"{path}: the folder holds no {kinds} file (each also as .gz)")
    else:
        root = Path(path.anchor) if path.is_absolute() else Path()
        found = [p for p in root.glob(str(path.relative_to(path.anchor))) if p.is_file()]
        if not found:
            raise DataError(f"{pattern}: no file is there")
    return sorted(found)


def read_bytes(path: Path) -> bytes:
    """Return the content of a file, unpacked when its name ends in .gz.

    Raises:
        DataError: it cannot be read, or its .gz is damaged.
    """
    try:
        if path.suffix == ".gz":
            with gzip.open(path, "rb") as file:
                return file.read()
        return path.read_bytes()
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
    if _kind(path) == ".jsonl":
        documents = _json_lines(path, text, config.text_key)
    elif config.documents is Documents.line:
        documents = (line.rstrip("\r") for line in text.split("\n"))
    elif config.documents is Documents.blank_line:
        documents = iter(BLANK_LINES.split(text))
    else:
        documents = iter([text])
    yield from (document for document in documents if document.strip())


def _decode(path: Path, data: bytes, config: TextConfig) -> str:
    if b"\0" in data[:8192] and not config.encoding.lower().replace("_", "-").startswith(("utf-16", "utf-32")):
        raise DataError(f"{path}: a binary file, not text (it holds zero bytes); if it is UTF-16, set data.encoding=utf-16")
    try:
        return data.decode(config.encoding, config.errors.name).removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise DataError(
            f"{path}: line {line}, offset {error.start}: byte 0x{data[error.start]:02x} is not {config.encoding}; "
            "set data.encoding (latin-1, cp1252, ...) or data.errors=replace"
        ) from None


def _json_lines(path: Path, text: str, key: str) -> Iterator[str]:
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError as error:
            raise DataError(f"{path}: line {number} is not JSON ({error})") from None
        value = row.get(key) if isinstance(row, dict) else None
        if not isinstance(value, str):
            keys = f"it has {', '.join(map(str, row))}" if isinstance(row, dict) else "it is no object"
            raise DataError(f"{path}: line {number} has no text under '{key}' ({keys}); set data.text_key")
        yield value.encode("utf-8", "replace").decode()


def _kind(path: Path) -> str:
    return Path(path.stem).suffix if path.suffix == ".gz" else path.suffix


def _is_text(path: Path) -> bool:
    return _kind(path) in SUFFIXES
