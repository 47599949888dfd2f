"""From files to text, piece by piece, with errors that say which file, which line and what to do."""

import codecs
import gzip
import hashlib
import re
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lmexp.config.data import DecodingErrors, FilesConfig
from lmexp.errors import DataError

PIECE_BYTES = 2**20
HALF_SURROGATES = re.compile("[\ud800-\udfff]")
REPLACEMENTS = {DecodingErrors.replace: "\ufffd", DecodingErrors.ignore: ""}


def digest(path: Path) -> str:
    """Return the blake2b hash of the content of a file, unpacked when its name ends in .gz.

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


@dataclass(frozen=True)
class FileText:
    """The text of a file in pieces; it is read each time they are gone through."""

    path: Path
    config: FilesConfig

    def __iter__(self) -> Iterator[str]:
        decoder, is_first = _Decoder(self.path, self.config), True
        with _opened(self.path) as file:
            while data := file.read(decoder.bytes_at_once):
                if text := decoder.decode(data):
                    yield text.removeprefix("\ufeff") if is_first else text
                    is_first = False
        if text := decoder.decode(b"", is_last=True):
            yield text


class _Decoder:
    """Bytes of a file to text, piece by piece."""

    def __init__(self, path: Path, config: FilesConfig) -> None:
        self.path, self.config = path, config
        codec = codecs.lookup(config.encoding)
        self.codec_name = codec.name
        self.bytes_at_once = -1 if codec.name == "punycode" else PIECE_BYTES  # each piece would be a text of its own
        assert codec.incrementaldecoder is not None
        self._decoder = codec.incrementaldecoder(config.errors.name)
        self._bytes_before = self._lines_before = self._text_lines_before = 0

    def decode(self, data: bytes, *, is_last: bool = False) -> str:
        """Return the text of the next bytes; the end of what is cut in two comes with the piece after it."""
        if not self._bytes_before:
            self._refuse_binary(data)
        data_of_both = self._pending + data
        try:
            text = self._decoder.decode(data, is_last)
        except UnicodeDecodeError as error:
            line = self._lines_before + data_of_both.count(b"\n", 0, error.start) + 1
            raise DataError(
                f"{self.path}: line {line}, offset {self._bytes_before + error.start}: byte "
                f"0x{data_of_both[error.start]:02x} is not {self.config.encoding}; "
                "set data.encoding (latin-1, cp1252, ...) or data.errors=replace"
            ) from None
        except UnicodeError as error:  # codecs such as idna that say no more
            raise DataError(f"{self.path}: is not {self.config.encoding} ({error}); set data.encoding") from None
        done = len(data_of_both) - len(self._pending)
        self._bytes_before += done
        self._lines_before += data_of_both.count(b"\n", 0, done)
        first_line = self._text_lines_before + 1
        self._text_lines_before += text.count("\n")
        if (half := HALF_SURROGATES.search(text)) is None:
            return text
        line = first_line + text.count("\n", 0, half.start())
        return without_half_surrogates(text, self.config, f"{self.path}: line {line}")

    @property
    def _pending(self) -> bytes:
        return self._decoder.getstate()[0]

    def _refuse_binary(self, data: bytes) -> None:
        if b"\0" in data[:8192] and not self.codec_name.startswith(("utf-16", "utf-32")):
            hint = "if it is UTF-16, set data.encoding=utf-16"
            raise DataError(f"{self.path}: a binary file, not text (it holds zero bytes); {hint}")


def without_half_surrogates(text: str, config: FilesConfig, place: str) -> str:
    """Return Unicode text: JSON escapes and some encodings can write half a surrogate pair, which nothing can store."""
    half = HALF_SURROGATES.search(text)
    if half and config.errors is DecodingErrors.strict:
        found = f"half of a surrogate pair ({half[0]!r}); set data.errors=replace or data.errors=ignore"
        raise DataError(f"{place}: the text holds {found}")
    return HALF_SURROGATES.sub(REPLACEMENTS[config.errors], text) if half else text
