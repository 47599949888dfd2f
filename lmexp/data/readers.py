"""From files to documents, with errors that say which file, which line and what to do."""

import io
import json
import os
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path

from lmexp.config.data import Documents, TextConfig
from lmexp.data.file_text import FileText, without_half_surrogates
from lmexp.errors import DataError
from lmexp.tokenization import Document, pieces

SUFFIXES = (".txt", ".md", ".jsonl")
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


def read_documents(path: Path, config: TextConfig) -> Iterator[Document]:
    """Yield the documents of a file that have any text; a whole file that is larger than a piece in pieces.

    Raises:
        DataError: it is not text in this encoding, or a line is not JSON with this key.
    """
    text = FileText(path, config)
    documents: Iterator[Document]
    if kind(path) == ".jsonl":
        documents = _json_lines(path, _lines(text), config)
    elif config.documents is Documents.line:
        documents = (line.rstrip("\r\n") for line in _lines(text))
    elif config.documents is Documents.blank_line:
        documents = _blocks(_lines(text))
    else:
        first = list(islice(text, 2))
        documents = iter([text] if len(first) > 1 else first)
    yield from (document for document in documents if any(piece and not piece.isspace() for piece in pieces(document)))


def _lines(text: Iterable[str]) -> Iterator[str]:
    """Yield the lines with their ends; what stands after the last end is one too, though it be empty."""
    begun: list[str] = []
    for piece in text:
        for line in io.StringIO(piece, newline="\n"):
            begun.append(line)
            if line.endswith("\n"):
                yield "".join(begun)
                begun.clear()
    yield "".join(begun)


def _blocks(lines: Iterable[str]) -> Iterator[str]:
    """Yield what stands between blank lines; the first and the last line of a file divide nothing."""
    block: list[str] = []
    for number, line in enumerate(lines):
        if number and line.endswith("\n") and line.isspace():
            yield "".join(block).removesuffix("\n")
            block.clear()
        else:
            block.append(line)
    yield "".join(block)


def kind(path: Path) -> str:
    """Return the suffix of a file, that before .gz if it has both."""
    suffix = path.suffix.lower()
    return Path(path.stem).suffix.lower() if suffix == ".gz" else suffix


def _json_lines(path: Path, lines: Iterable[str], config: TextConfig) -> Iterator[str]:
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line.removesuffix("\n"))
        except json.JSONDecodeError as error:
            raise DataError(f"{path}: line {number} is not JSON ({error.msg} at column {error.colno})") from None
        except (ValueError, RecursionError) as error:  # a number of thousands of digits, thousands of brackets
            raise DataError(f"{path}: line {number} is not JSON ({error})") from None
        value = row.get(config.text_key) if isinstance(row, dict) else None
        if not isinstance(value, str):
            hint = f"({_describe(row, config.text_key)}); set data.text_key"
            raise DataError(f"{path}: line {number} has no text under '{config.text_key}' {hint}")
        yield without_half_surrogates(path, value, config, line=number, spans_lines=False)


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
