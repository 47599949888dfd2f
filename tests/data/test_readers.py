"""Files a user may have, and what they are told about those that cannot be read."""

import codecs
import gzip
import json
import os
import re
from encodings.aliases import aliases
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmexp.config.data import DecodingErrors, Documents, TextConfig
from lmexp.data import file_text
from lmexp.data.readers import read_documents
from lmexp.errors import DataError
from lmexp.tokenization import pieces


def read(path: Path, **settings) -> list[str]:
    documents = read_documents(path, TextConfig(path=str(path), **settings))
    return ["".join(pieces(document)) for document in documents]


def refusal(path: Path, **settings) -> str:
    with pytest.raises(DataError) as error:
        read(path, **settings)
    return str(error.value)


def write(folder: Path, name: str, content: str | bytes) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    data = content.encode() if isinstance(content, str) else content
    path.write_bytes(gzip.compress(data) if name.lower().endswith(".gz") else data)
    return path


# -- kinds of files ------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".txt", ".md", ".TXT", ".txt.gz", ".md.gz", ".TXT.GZ", ".log", ""])
def test_a_text_file_is_one_document(folder: Path, suffix: str):
    assert read(write(folder, f"a{suffix}", " One.\n\nTwo.\n")) == [" One.\n\nTwo.\n"]


@pytest.mark.parametrize("suffix", [".jsonl", ".JSONL", ".jsonl.gz"])
def test_a_line_of_jsonl_is_one_document(folder: Path, suffix: str):
    lines = '{"text": "One\\ntwo \\u00e9 \\u2028"}\n\n{"text": "", "id": 1}\r\n{"text": "3\u2028"}'
    assert read(write(folder, f"a{suffix}", lines)) == ["One\ntwo é \u2028", "3\u2028"]


def test_the_text_may_have_another_key(folder: Path):
    assert read(write(folder, "a.jsonl", '{"body": "One", "text": 3}'), text_key="body") == ["One"]


def test_a_line_can_be_a_document(folder: Path):
    path = write(folder, "a.txt", "One.\r\n\n  two \n \nthree\u2028still three")
    assert read(path, documents=Documents.line) == ["One.", "  two ", "three\u2028still three"]


def test_a_block_between_blank_lines_can_be_a_document(folder: Path):
    path = write(folder, "a.txt", "One\ntwo\n \t\n\n    indented\nfour\r\n\r\nfive\n")
    assert read(path, documents=Documents.blank_line) == ["One\ntwo", "    indented\nfour\r", "five\n"]


@given(text=st.text(alphabet="ab \n\t\r"))
def test_blocks_are_what_blank_lines_divide(tmp_path_factory: pytest.TempPathFactory, text: str):
    path = write(tmp_path_factory.getbasetemp(), "blocks.txt", text)
    blocks = re.split(r"\n(?:[^\S\n]*\n)+", text)
    assert read(path, documents=Documents.blank_line) == [block for block in blocks if block and not block.isspace()]


@pytest.mark.parametrize("content", ["", "\n", " \n\t\r\n ", "\ufeff"])
@pytest.mark.parametrize("name", ["a.txt", "a.jsonl", "a.md.gz"])
def test_a_file_without_text_has_no_documents(folder: Path, name: str, content: str):
    assert read(write(folder, name, content)) == []


# -- pieces ------------------------------------------------------------

NOT_EVERYWHERE = {"mbcs", "oem"}
ENCODINGS = sorted(name for name in {*aliases.values()} - NOT_EVERYWHERE if codecs.lookup(name)._is_text_encoding)


@pytest.fixture
def small_pieces(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(file_text, "PIECE_BYTES", 3)


def test_a_large_file_is_a_document_in_pieces(folder: Path, small_pieces: None):
    (document,) = read_documents(write(folder, "a.txt", "One two."), TextConfig())
    assert list(document) == list(document) == ["One", " tw", "o."]


@pytest.mark.parametrize("documents", Documents)
@pytest.mark.parametrize("name", ["a.txt", "a.txt.gz"])
def test_pieces_change_nothing(folder: Path, small_pieces: None, name: str, documents: Documents):
    text = "\ufeffOne 漢字.\r\n\n  two 😀\n \nthree\u2028still\n\n\n"
    path = write(folder, name, text)
    in_pieces = read(path, documents=documents)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(file_text, "PIECE_BYTES", 2**20)
        assert in_pieces == read(path, documents=documents) != []


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_every_encoding_can_be_read_in_pieces(folder: Path, small_pieces: None, encoding: str):
    text = "".join(c for c in "One.\nΩmega, é, 漢字 и 😀" if _can_be_written(c, encoding))
    data = text.encode(encoding)
    assert read(write(folder, "a.txt", data), encoding=encoding) == [data.decode(encoding).removeprefix("\ufeff")]


def _can_be_written(character: str, encoding: str) -> bool:
    try:
        return character.encode(encoding).decode(encoding).removeprefix("\ufeff") == character
    except UnicodeError:
        return False


@pytest.mark.parametrize("before", range(8))
def test_an_error_is_named_by_its_place_in_the_file_and_not_in_the_piece(folder: Path, small_pieces: None, before: int):
    path = write(folder, "a.txt", b"\n" * before + "é".encode() + b"\xc3\n")
    assert refusal(path).startswith(f"{path}: line {before + 1}, offset {before + 2}: byte 0xc3 is not utf-8; ")
    path = write(folder, "b.txt", b"\n" * before + b"\\ud83d")
    assert refusal(path, encoding="unicode_escape").startswith(f"{path}: line {before + 1}: the text holds half")


def test_a_text_that_ends_in_half_a_character_is_refused(folder: Path, small_pieces: None):
    path = write(folder, "a.txt", b"abcd\xc3")
    assert refusal(path).startswith(f"{path}: line 1, offset 4: byte 0xc3 is not utf-8; ")


# -- encodings ------------------------------------------------------------


@pytest.mark.parametrize("encoding", ["latin-1", "cp1252", "utf-16", "UTF16", "utf-16-le", "utf_32", "utf-8-sig", "u8"])
def test_text_is_read_in_its_encoding(folder: Path, encoding: str):
    path = write(folder, "a.txt", "é\r\nà".encode(encoding))
    assert read(path, encoding=encoding) == ["é\r\nà"]


def test_a_byte_order_mark_is_no_text(folder: Path):
    assert read(write(folder, "a.jsonl", '\ufeff{"text": "a\ufeff"}')) == ["a\ufeff"]


def test_bytes_that_are_no_text_are_named_by_line_and_offset(folder: Path):
    path = write(folder, "a.txt", b"one\ntwo\nth\xe9ee\n")
    assert refusal(path) == (
        f"{path}: line 3, offset 10: byte 0xe9 is not utf-8; "
        "set data.encoding (latin-1, cp1252, ...) or data.errors=replace"
    )


def test_bytes_that_are_no_text_can_be_replaced_or_dropped(folder: Path):
    path = write(folder, "a.txt", b"th\xe9ee")
    assert read(path, errors=DecodingErrors.replace) == ["th\ufffdee"]
    assert read(path, errors=DecodingErrors.ignore) == ["thee"]
    assert read(path, encoding="latin-1") == ["théee"]


@pytest.mark.parametrize("encoding", ["utf-16", "utf-32", "ascii", "utf-7", "idna", "punycode"])
def test_a_wrong_encoding_is_named(folder: Path, encoding: str):
    path = write(folder, "a.txt", b"abc\xe9\xff-xn--\xff-" + bytes([0xD8, 0xFF, 0xFF]))
    assert refusal(path, encoding=encoding).startswith(f"{path}: ")
    assert encoding in refusal(path, encoding=encoding)


def test_a_binary_file_is_refused(folder: Path):
    path = write(folder, "a.txt", "text".encode("utf-16-le"))
    assert refusal(path) == (
        f"{path}: a binary file, not text (it holds zero bytes); if it is UTF-16, set data.encoding=utf-16"
    )


def test_half_a_surrogate_pair_in_json_is_treated_like_a_wrong_byte(folder: Path):
    path = write(folder, "a.jsonl", '{"text": "\\ud83d\\ude00"}\n{"text": "cut \\ud83d"}')
    assert refusal(path) == (
        f"{path}: line 2: the text holds half of a surrogate pair ('\\ud83d'); "
        "set data.errors=replace or data.errors=ignore"
    )
    assert read(path, errors=DecodingErrors.replace) == ["😀", "cut \ufffd"]
    assert read(path, errors=DecodingErrors.ignore) == ["😀", "cut "]


def test_half_a_surrogate_pair_from_an_encoding_is_refused(folder: Path):
    path = write(folder, "a.txt", "one\ntwo \\ud83d")
    assert refusal(path, encoding="unicode_escape").startswith(f"{path}: line 2: the text holds half of a surrogate")


# -- files that cannot be read ------------------------------------------------------------


def test_a_missing_file_is_named(folder: Path):
    assert refusal(folder / "none.txt") == f"{folder}/none.txt: cannot be read: No such file or directory"


def test_a_folder_called_like_a_file_is_named(folder: Path):
    (folder / "a.txt").mkdir()
    assert refusal(folder / "a.txt") == f"{folder}/a.txt: cannot be read: Is a directory"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_without_permission_is_named(folder: Path):
    path = write(folder, "a.txt", "text")
    path.chmod(0)
    assert refusal(path) == f"{path}: cannot be read: Permission denied"


def test_a_gzip_file_that_was_cut_off_is_named(folder: Path):
    path = write(folder, "a.txt.gz", os.urandom(1000))
    path.write_bytes(path.read_bytes()[:-30])
    assert refusal(path) == f"{path}: the .gz file ends too early; it was cut off, copy or download it again"


def test_a_gzip_file_that_is_none_is_named(folder: Path):
    path = folder / "a.txt.gz"
    path.write_text("plain text")
    assert refusal(path) == f"{path}: not a gzip file, or a damaged one (Not a gzipped file (b'pl'))"


@pytest.mark.parametrize("position", [12, 40, -6])
def test_a_damaged_gzip_file_is_named(folder: Path, position: int):
    path = write(folder, "a.txt.gz", json.dumps(list(range(300))))
    data = bytearray(path.read_bytes())
    data[position] ^= 0xFF
    path.write_bytes(data)
    assert refusal(path).startswith(f"{path}: not a gzip file, or a damaged one (")


# -- JSON ------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("{'text': 1}", "line 3 is not JSON (Expecting property name enclosed in double quotes at column 2)"),
        ("text", "line 3 is not JSON (Expecting value at column 1)"),
        ('{"text": "a"', "line 3 is not JSON (Expecting ',' delimiter at column 13)"),
        ("[1]", "line 3 has no text under 'text' (it is no object); set data.text_key"),
        ("{}", "line 3 has no text under 'text' (it has no keys); set data.text_key"),
        ('{"body": "a", "id": 1}', "line 3 has no text under 'text' (it has body, id); set data.text_key"),
        ('{"text": null}', "line 3 has no text under 'text' (its value is null); set data.text_key"),
        ('{"text": ["a"]}', "line 3 has no text under 'text' (its value is [\"a\"]); set data.text_key"),
    ],
)
def test_a_line_that_has_no_text_is_named(folder: Path, line: str, problem: str):
    path = write(folder, "a.jsonl", f'{{"text": "a"}}\n\n{line}\n')
    assert refusal(path) == f"{path}: {problem}"


@pytest.mark.parametrize("line", ["[" * 100_000, '{"text": ' * 100_000, "1" * 5000])
def test_json_that_python_cannot_hold_is_named(folder: Path, line: str):
    path = write(folder, "a.jsonl", line)
    assert refusal(path).startswith(f"{path}: line 1 is not JSON (")


def test_of_many_keys_ten_are_named(folder: Path):
    path = write(folder, "a.jsonl", json.dumps({f"k{i}": 1 for i in range(11)}))
    assert "(it has k0, k1, k2, k3, k4, k5, k6, k7, k8, k9, ...)" in refusal(path)
