"""From a file to its documents, by its format. What is broken in a file is reported, and the rest goes on."""

import csv
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from lmexp.config.corpus import ExtractConfig
from lmexp.config.data import Documents
from lmexp.corpus import epub, mediawiki
from lmexp.corpus.html import extract
from lmexp.corpus.opened import Report, lines, opened, suffix_of, text_of, whole
from lmexp.corpus.sandbox import Sandbox
from lmexp.errors import DataError, MissingPackageError

TEXT_KEYS = ("text", "content", "body", "article", "document", "review", "paragraphs")
KEPT = {"id": "original_id", **{name: name for name in ("url", "title", "author", "date")}}
"""What is kept of a row beside its text, and how it is called."""
JSON_FILE_BYTES = 10**9
KEYS_SHOWN = 8


@dataclass(slots=True)
class Extracted:
    """A document as it was found: where in its file, its text, and what else is known of it."""

    place: str
    text: str
    metadata: dict[str, Any] = field(default_factory=dict)
    namespaces: list[str] | None = None
    """Those of its dump if the text is MediaWiki's markup still, which takes ten times as long as finding it."""


class Reader:
    """Reads files of every supported format."""

    def __init__(self, config: ExtractConfig) -> None:
        self.config = config
        self.max_bytes = int(config.max_document_mb * 1e6)
        self._page = Sandbox(extract, config.timeout_seconds, (b"", True))
        self._article = Sandbox(mediawiki.plain, config.timeout_seconds, ("",))

    def read(self, path: Path, report: Report) -> Iterator[Extracted]:
        """Yield the documents of a file, those with text only.

        Raises:
            DataError: from here on nothing can be read of it.
        """
        for document in self.found(path, report):
            if document.namespaces is not None:
                document.text = self.article(document.place, document.text, document.namespaces, report)
            if document.text:
                yield document

    def found(self, path: Path, report: Report) -> Iterator[Extracted]:
        """Yield the documents of a file, articles of MediaWiki in their markup.

        Raises:
            DataError: from here on nothing can be read of it.
        """
        suffix = suffix_of(path)
        if suffix not in FORMATS:
            raise DataError(f"is in a format that is not read here ({suffix or 'it has no ending'})")
        with opened(path) as file:
            for document in FORMATS[suffix](self, file, report, suffix):
                if len(document.text) > self.max_bytes:
                    report(f"{document.place} is larger than {self.config.max_document_mb:g} MB")
                elif document.text and not document.text.isspace():
                    yield document

    def article(self, place: str, found: str, namespaces: list[str], report: Report) -> str:
        """Return the title of an article and below it its text without markup, nothing if there is none."""
        title, _, markup = found.partition("\n\n")
        try:
            text = self._article(markup, namespaces)
        except DataError as error:
            report(f"{place}, {title}: {error}")
            return ""
        return f"{title}\n\n{text}" if text else ""

    def close(self) -> None:
        """End what was started for reading."""
        self._page.close()
        self._article.close()

    def _lines(self, file: IO[bytes], report: Report) -> Iterator[tuple[int, str]]:
        return lines(file, self.config.encoding, self.max_bytes, report)

    def _text(self, file: IO[bytes], report: Report, suffix: str) -> Iterator[Extracted]:
        if self.config.documents is Documents.line:
            yield from (Extracted(f"line {number}", line) for number, line in self._lines(file, report))
            return
        block: list[str] = []
        first, size = 1, 0
        for number, line in self._lines(file, report):
            ends = self.config.documents is Documents.blank_line and not line.strip()
            if ends or size + len(line) >= self.max_bytes:  # a file that is larger than a document is cut at a line
                yield Extracted(f"line {first}", "\n".join(block))
                block, size = [], 0
            if not ends:
                first = first if block else number
                block.append(line)
                size += len(line) + 1
        yield Extracted(f"line {first}", "\n".join(block))

    def _rows(self, file: IO[bytes], report: Report, suffix: str) -> Iterator[Extracted]:
        has_head, found = suffix in (".csv", ".tsv", ".parquet"), 0
        for place, row in rows_of(file, suffix, self.config.encoding, self.max_bytes, report):
            objects = [row] if self._key(row) is not None or suffix != ".json" else list(self._inside(row))
            for one in objects:
                key = self._key(one)
                if key is not None:
                    found += 1
                    yield self._of_row(one, key, place)
                elif has_head and not found and not self._columns(one):
                    raise DataError(f"has no column {self._wanted} ({_has(one)}); set corpus.extract.text_key")
                elif not has_head:
                    report(f"{place} has no text under {self._wanted} ({_has(one)})")
        if not found and suffix == ".json":
            raise DataError(f"holds no text under {self._wanted}; set corpus.extract.text_key")

    def _of_row(self, row: dict[str, Any], key: str, place: str) -> Extracted:
        value = row[key]
        more = {KEPT[name]: str(row[name]) for name in KEPT if isinstance(row.get(name), str | int)}
        return Extracted(place, value if isinstance(value, str) else "\n".join(value), more)

    def _inside(self, value: Any) -> Iterator[dict[str, Any]]:
        """Yield the objects that have a text, however deep they are."""
        if isinstance(value, dict) and self._key(value) is not None:
            yield value
        elif isinstance(value, dict | list):
            for item in value.values() if isinstance(value, dict) else value:
                yield from self._inside(item)

    def _columns(self, row: dict[str, Any]) -> list[str]:
        return [key for key in ((self.config.text_key,) if self.config.text_key else TEXT_KEYS) if key in row]

    def _key(self, row: Any) -> str | None:
        return next((key for key in self._columns(row) if _is_text(row[key])), None) if isinstance(row, dict) else None

    @property
    def _wanted(self) -> str:
        return f"'{self.config.text_key}'" if self.config.text_key else f"any of {', '.join(TEXT_KEYS)}"

    def _html(self, file: IO[bytes], report: Report, suffix: str) -> Iterator[Extracted]:
        text, title = self._page(whole(file, self.max_bytes), self.config.html_tables)
        if not text:
            report("has no text beside its navigation")
        yield Extracted("", text, {"title": title} if title else {})

    def _epub(self, file: IO[bytes], report: Report, suffix: str) -> Iterator[Extracted]:
        text, title = epub.read(file, self.max_bytes, report)
        yield Extracted("", text, {"title": title} if title else {})

    def _xml(self, file: IO[bytes], report: Report, suffix: str) -> Iterator[Extracted]:
        for number, title, markup, namespaces in mediawiki.read(file):
            yield Extracted(f"page {number}", f"{title}\n\n{markup}", {"title": title}, namespaces)


def rows_of(
    file: IO[bytes], suffix: str, encoding: str | None, max_bytes: int, report: Report
) -> Iterator[tuple[str, Any]]:
    """Yield where each row of a file is, and its value; of a JSON file that is a list its items.

    Raises:
        DataError: from here on nothing can be read of it.
    """
    if suffix == ".json":
        try:
            value = json.loads(text_of(whole(file, max(max_bytes, JSON_FILE_BYTES)), encoding, report))
        except (ValueError, RecursionError) as error:
            raise DataError(f"is not JSON ({error})") from None
        yield from (
            (f"item {n}", item) for n, item in enumerate(value if isinstance(value, list) else [value], start=1)
        )
    elif suffix == ".parquet":
        yield from _parquet(file)
    elif suffix in (".csv", ".tsv"):
        yield from _table(
            lines(file, encoding, max_bytes, report), "," if suffix == ".csv" else "\t", max_bytes, report
        )
    else:
        for number, line in lines(file, encoding, max_bytes, report):
            if not line.strip():
                continue
            try:
                yield f"line {number}", json.loads(line)
            except (ValueError, RecursionError) as error:
                report(f"line {number} is not JSON ({error})")


def _table(
    numbered: Iterator[tuple[int, str]], delimiter: str, max_bytes: int, report: Report
) -> Iterator[tuple[str, Any]]:
    csv.field_size_limit(max_bytes)
    numbered_lines = (f"{line}\n" for _, line in numbered)
    if delimiter == ",":
        rows = csv.reader(numbered_lines)
    else:  # a quote in a TSV is most often one in the text
        rows = csv.reader(numbered_lines, delimiter=delimiter, quoting=csv.QUOTE_NONE)
    head: list[str] | None = None
    while True:
        try:
            row = next(rows)
        except StopIteration:
            return
        except csv.Error as error:
            report(f"line {rows.line_num}: {error}")
            continue
        if head is None:
            head = row
        elif len(row) == len(head):
            yield f"line {rows.line_num}", dict(zip(head, row, strict=True))
        elif row:
            report(f"line {rows.line_num} has {len(row)} fields, and the head {len(head)}")


def _parquet(file: IO[bytes]) -> Iterator[tuple[str, Any]]:
    try:
        import pyarrow
        import pyarrow.parquet
    except ModuleNotFoundError:
        raise MissingPackageError("pyarrow", "corpus") from None
    number = 0
    try:
        for batch in pyarrow.parquet.ParquetFile(file).iter_batches(batch_size=256):
            for row in batch.to_pylist():
                number += 1
                yield f"row {number}", row
    except (pyarrow.ArrowException, OSError) as error:
        raise DataError(f"is no Parquet file, or a damaged one ({str(error).splitlines()[0]})") from None


def _has(row: Any) -> str:
    return ", ".join(map(str, list(row)[:KEYS_SHOWN])) if isinstance(row, dict) else "it is no object"


def _is_text(value: Any) -> bool:
    return isinstance(value, str) or (
        isinstance(value, list) and bool(value) and all(isinstance(item, str) for item in value)
    )


ROWS = (".jsonl", ".ndjson", ".json", ".csv", ".tsv", ".parquet")
FORMATS: dict[str, Callable[[Reader, IO[bytes], Report, str], Iterator[Extracted]]] = {
    **dict.fromkeys((".txt", ".md", ".markdown"), Reader._text),
    **dict.fromkeys(ROWS, Reader._rows),
    **dict.fromkeys((".html", ".htm", ".xhtml"), Reader._html),
    ".epub": Reader._epub,
    ".xml": Reader._xml,
}
