"""A file as bytes and as lines: unpacked by its ending, its encoding found out, no line without a bound."""

import bz2
import codecs
import gzip
import io
import lzma
import re
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from lmexp.errors import DataError, MissingPackageError

PACKED = (".gz", ".bz2", ".zst", ".xz")
SAMPLE_BYTES = 2**18
MOST_ZEROS = 0.001
PART_OF_A_DUMP = re.compile(r"^\.xml-p\d+p\d+.*$")
"""Wikipedia's own names: enwiki-latest-pages-articles1.xml-p1p41242.bz2."""
BOMS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
Report = Callable[[str], None]
"""Told what was wrong with a part of a file, which is left out."""


def suffix_of(path: Path) -> str:
    """Return the ending that says the format, without that of its packing.

    Example:
        >>> suffix_of(Path("dump.xml.bz2"))
        '.xml'
    """
    suffix = path.suffix.lower()
    suffix = Path(path.stem).suffix.lower() if suffix in PACKED else suffix
    return PART_OF_A_DUMP.sub(".xml", suffix)


@contextmanager
def opened(path: Path) -> Iterator[IO[bytes]]:
    """Open a file for reading, unpacked.

    Raises:
        DataError: it cannot be read, or is damaged or cut off; also later, while it is read.
    """
    try:
        with open(path, "rb") as raw:
            yield _unpacked(raw, path.suffix.lower())
    except EOFError:
        raise DataError("is cut off: its end is missing") from None
    except (gzip.BadGzipFile, zlib.error, lzma.LZMAError) as error:
        raise DataError(f"is damaged ({error})") from None
    except OSError as error:
        raise DataError(f"cannot be read ({error.strerror or error})") from None


def _unpacked(raw: IO[bytes], suffix: str) -> Any:
    if suffix == ".gz":
        return gzip.open(raw)
    if suffix == ".bz2":
        return bz2.open(raw)
    if suffix == ".xz":
        return lzma.open(raw)
    if suffix == ".zst":
        return io.BufferedReader(_Zstandard(raw), SAMPLE_BYTES)
    return raw


class _Zstandard(io.RawIOBase):
    """A file of zstd frames; the library's own reader takes a file that is cut off for a whole one."""

    def __init__(self, raw: IO[bytes]) -> None:
        try:
            import zstandard
        except ModuleNotFoundError:
            raise MissingPackageError("zstandard", "corpus") from None
        self._raw, self._new, self._error = raw, zstandard.ZstdDecompressor().decompressobj, zstandard.ZstdError
        self._frame, self._left, self._packed = self._new(), b"", b""
        self._is_inside = False

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._left:
            if self._frame.eof:
                self._packed, self._frame = self._frame.unused_data, self._new()
            self._packed = self._packed or self._raw.read(2**16)
            if not self._packed:
                if self._is_inside:
                    raise EOFError
                return 0
            try:
                self._left = self._frame.decompress(self._packed)
            except self._error as error:
                raise DataError(f"is damaged ({error})") from None
            self._is_inside, self._packed = not self._frame.eof, b""
        count = min(len(buffer), len(self._left))
        buffer[:count], self._left = self._left[:count], self._left[count:]
        return count


def whole(file: IO[bytes], max_bytes: int) -> bytes:
    """Return all of a file.

    Raises:
        DataError: there is more than `max_bytes` of it.
    """
    data = file.read(max_bytes + 1)
    if len(data) > max_bytes:
        raise DataError(f"is larger than {max_bytes / 1e6:g} MB (corpus.extract.max_document_mb)")
    return data


def encoding_of(sample: bytes) -> str:
    """Return the encoding of text that begins with these bytes.

    Raises:
        DataError: it is no text.
    """
    for mark, name in BOMS:
        if sample.startswith(mark):
            return name
    if b"\0" in sample:
        even, odd = sample[::2].count(0), sample[1::2].count(0)
        if max(even, odd) > 0.2 * len(sample) / 2 and min(even, odd) < 0.05 * max(even, odd):
            return "utf-16-be" if even > odd else "utf-16-le"
    try:
        codecs.getincrementaldecoder("utf-8")().decode(sample, final=False)
    except UnicodeDecodeError:
        if b"\0" in sample:
            raise DataError("is binary: it holds zero bytes, and what is no text") from None
        return _likeliest(sample)
    if sample.count(0) > MOST_ZEROS * len(sample):
        raise DataError("is binary: it holds zero bytes")
    return "utf-8"


def _likeliest(sample: bytes) -> str:
    """Return an encoding of one of the families before Unicode, by the frequency of letters."""
    try:
        import chardet
    except ModuleNotFoundError:
        raise MissingPackageError("chardet", "corpus") from None
    name = chardet.detect(sample[:SAMPLE_BYTES])["encoding"]
    return name or "cp1252"


def text_of(data: bytes, encoding: str | None, report: Report) -> str:
    """Return bytes as text with plain line ends; what is no text in the encoding becomes U+FFFD and is reported."""
    encoding = encoding or encoding_of(data[:SAMPLE_BYTES])
    _replaced.clear()
    text = data.decode(encoding, COUNTING).removeprefix("\ufeff")
    _report_replaced(encoding, report)
    return text.replace("\r\n", "\n").replace("\r", "\n")


def lines(file: IO[bytes], encoding: str | None, max_bytes: int, report: Report) -> Iterator[tuple[int, str]]:
    """Yield the number and the text of each line, without its end; a line that is too long is left out."""
    buffered: Any = file if hasattr(file, "peek") else io.BufferedReader(file)
    sample = buffered.peek(SAMPLE_BYTES)[:SAMPLE_BYTES]
    text = io.TextIOWrapper(buffered, encoding or encoding_of(sample), errors=COUNTING, newline=None)
    number = 0
    _replaced.clear()
    try:
        while line := text.readline(max_bytes + 1):
            number += 1
            if len(line) > max_bytes and not line.endswith("\n"):
                while line and not line.endswith("\n"):
                    line = text.readline(2**20)
                report(f"line {number} is longer than {max_bytes / 1e6:g} MB (corpus.extract.max_document_mb)")
                continue
            yield number, line.removesuffix("\n").removeprefix("\ufeff" if number == 1 else "\0")
    finally:
        _report_replaced(text.encoding, report)
        text.detach()


_replaced: list[int] = []


def _replace(error: UnicodeError) -> tuple[str, int]:
    assert isinstance(error, UnicodeDecodeError)
    _replaced.append(error.end - error.start)
    return "\ufffd", error.end


COUNTING = "lmexp-replace"
"""Python's own handler "replace" that also counts, for a text may hold U+FFFD of its own."""
codecs.register_error(COUNTING, _replace)


def _report_replaced(encoding: str, report: Report) -> None:
    if _replaced:
        report(f"{sum(_replaced)} bytes are not {encoding}")
