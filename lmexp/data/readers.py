"""From files to documents, with errors that say which file, which line and what to do."""

import io
import json
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from lmexp.config.data import Documents, TextConfig
from lmexp.data.file_text import FileText, without_half_surrogates
from lmexp.data.files import kind
from lmexp.errors import DataError
from lmexp.tokenization import Document, pieces

SUFFIXES = (".txt", ".md", ".jsonl")
KEYS_SHOWN = 10


def read_documents(path: Path, config: TextConfig) -> Iterator[Document]:
    """Yield the documents of a file that have any text; a whole file that is larger than a piece in pieces.

    Raises:
        DataError: it is not text in this encoding, or a line is not JSON with this key.
    """
    text = FileText(path, config)
    documents: Iterator[Document]
    if kind(path) == ".jsonl":
        documents = _texts(path, text, config)
    elif config.documents is Documents.line:
        documents = (line.rstrip("\r\n") for line in lines(text))
    elif config.documents is Documents.blank_line:
        documents = _blocks(lines(text))
    else:
        first = list(islice(text, 2))
        documents = iter([text] if len(first) > 1 else first)
    yield from (document for document in documents if any(piece and not piece.isspace() for piece in pieces(document)))


def lines(text: Iterable[str]) -> Iterator[str]:
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


def json_lines(path: Path, text: Iterable[str]) -> Iterator[tuple[str, Any]]:
    """Yield where each line that is not empty stands, and its value.

    Raises:
        DataError: a line is not JSON.
    """
    for number, line in enumerate(lines(text), start=1):
        if not line.strip():
            continue
        place = f"{path}: line {number}"
        try:
            value = json.loads(line.removesuffix("\n"))
        except json.JSONDecodeError as error:
            raise DataError(f"{place} is not JSON ({error.msg} at column {error.colno})") from None
        except (ValueError, RecursionError) as error:  # a number of thousands of digits, thousands of brackets
            raise DataError(f"{place} is not JSON ({error})") from None
        yield place, value


def _texts(path: Path, text: Iterable[str], config: TextConfig) -> Iterator[str]:
    for place, row in json_lines(path, text):
        value = row.get(config.text_key) if isinstance(row, dict) else None
        if not isinstance(value, str):
            hint = f"({_describe(row, config.text_key)}); set data.text_key"
            raise DataError(f"{place} has no text under '{config.text_key}' {hint}")
        yield without_half_surrogates(value, config, place)


def _describe(row: object, key: str) -> str:
    if not isinstance(row, dict):
        return "it is no object"
    if key in row:
        return f"its value is {json.dumps(row[key])[:40]}"
    more = ", ..." if len(row) > KEYS_SHOWN else ""
    return f"it has {', '.join(list(row)[:KEYS_SHOWN])}{more}" if row else "it has no keys"
