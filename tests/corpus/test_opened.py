"""Files are unpacked and their encoding is found out; what is cut off, damaged or too long is named."""

import bz2
import codecs
import gzip
import io
import lzma
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard

from lmexp.corpus.opened import encoding_of, lines, opened, suffix_of, text_of, whole
from lmexp.errors import DataError

PACK: dict[str, Callable[[bytes], bytes]] = {
    ".gz": gzip.compress,
    ".bz2": bz2.compress,
    ".xz": lzma.compress,
    ".zst": zstandard.compress,
}
PACKED = sorted(PACK)


def ignore(problem: str) -> None:
    """For tests in which nothing is to be reported."""
    raise AssertionError(problem)


def all_lines(path: Path, max_bytes: int = 10**6, problems: list[str] | None = None) -> list[str]:
    with opened(path) as file:
        return [line for _, line in lines(file, None, max_bytes, ignore if problems is None else problems.append)]


@pytest.mark.parametrize(
    ("name", "suffix"),
    [
        ("a.txt", ".txt"),
        ("a.TXT", ".txt"),
        ("a.tar.txt", ".txt"),
        ("a.jsonl.gz", ".jsonl"),
        ("a.JSONL.GZ", ".jsonl"),
        ("a.b.xml.bz2", ".xml"),
        ("a.csv.zst", ".csv"),
        ("a.gz", ""),
        ("a", ""),
        (".txt", ""),
        ("enwiki-pages-articles1.xml-p1p41242.bz2", ".xml"),
        ("enwiki-pages-articles1.xml-p1p41242", ".xml"),
    ],
)
def test_the_format_is_the_ending_before_that_of_the_packing(name: str, suffix: str) -> None:
    assert suffix_of(Path(name)) == suffix


@pytest.mark.parametrize("suffix", PACKED)
def test_a_packed_file_is_what_was_packed(suffix: str, tmp_path: Path) -> None:
    data = b"".join(b"line %d of it\n" % n for n in range(30_000))
    path = tmp_path / f"a.txt{suffix}"
    path.write_bytes(PACK[suffix](data))
    with opened(path) as file:
        assert file.read() == data


@pytest.mark.parametrize("suffix", PACKED)
def test_a_file_of_two_packed_parts_is_both(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"a.txt{suffix}"
    path.write_bytes(PACK[suffix](b"one\n") + PACK[suffix](b"two\n"))
    assert all_lines(path) == ["one", "two"]


@pytest.mark.parametrize("suffix", PACKED)
@pytest.mark.parametrize("left", [0.02, 0.5, 0.999])
def test_a_cut_off_file_is_named(suffix: str, left: float, tmp_path: Path) -> None:
    data = PACK[suffix](b"".join(b"%d\n" % (n * 7919 % 100_003) for n in range(20_000)))
    path = tmp_path / f"a.txt{suffix}"
    path.write_bytes(data[: int(len(data) * left)])
    with pytest.raises(DataError, match="is cut off"), opened(path) as file:
        file.read()


@pytest.mark.parametrize("suffix", [".gz", ".xz", ".zst"])
def test_the_lines_before_a_cut_are_given(suffix: str, tmp_path: Path) -> None:
    all_of_it = [str(n * 7919 % 100_003) for n in range(100_000)]
    data = PACK[suffix]("\n".join(all_of_it).encode())
    path = tmp_path / f"a.txt{suffix}"
    path.write_bytes(data[: len(data) * 9 // 10])
    found: list[str] = []
    with pytest.raises(DataError, match="is cut off"), opened(path) as file:
        found.extend(line for _, line in lines(file, None, 10**6, ignore))
    assert len(found) > 60_000
    assert found == all_of_it[: len(found)]


@pytest.mark.parametrize("suffix", PACKED)
def test_a_file_that_is_not_packed_as_its_ending_says_is_named(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"a.txt{suffix}"
    path.write_bytes(b"this is plain text\n" * 100)
    with pytest.raises(DataError, match=r"is damaged|cannot be read"), opened(path) as file:
        file.read()


@pytest.mark.parametrize("suffix", [".gz", ".xz", ".zst"])
def test_what_was_changed_within_a_packed_file_is_noticed(suffix: str, tmp_path: Path) -> None:
    pack = {**PACK, ".zst": zstandard.ZstdCompressor(write_checksum=True).compress}[suffix]
    data = bytearray(pack(b"".join(b"%d\n" % (n * 7919 % 100_003) for n in range(20_000))))
    data[len(data) // 2] ^= 255
    path = tmp_path / f"a.txt{suffix}"
    path.write_bytes(data)
    with pytest.raises(DataError), opened(path) as file:
        file.read()


def test_a_file_that_is_not_there_and_a_folder_are_named(tmp_path: Path) -> None:
    for path in (tmp_path / "nothing.txt", tmp_path):
        with pytest.raises(DataError, match="cannot be read"), opened(path):
            pass


def test_more_than_the_limit_is_not_read_however_much_a_file_unpacks_to(tmp_path: Path) -> None:
    path = tmp_path / "a.html.gz"
    path.write_bytes(gzip.compress(b"a" * 20_000_000))
    with opened(path) as file, pytest.raises(DataError, match="larger than 1 MB"):
        whole(file, 1_000_000)
    assert whole(io.BytesIO(b"abc"), 3) == b"abc"


TEXT = "Gr\u00fc\u00dfe, \u043c\u0438\u0440, \u4f60\u597d\nzweite Zeile\n"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"])
def test_unicode_is_read_with_and_without_a_mark_at_its_beginning(encoding: str, tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(TEXT.encode(encoding))
    assert all_lines(path) == TEXT.splitlines()
    assert text_of(path.read_bytes(), None, ignore) == TEXT


RUSSIAN = (
    "\u0421\u0435\u0433\u043e\u0434\u043d\u044f \u0445\u043e\u0440\u043e\u0448\u0430\u044f "
    "\u043f\u043e\u0433\u043e\u0434\u0430, \u043c\u044b \u0438\u0434\u0451\u043c "
    "\u0433\u0443\u043b\u044f\u0442\u044c \u0432 \u043f\u0430\u0440\u043a."
)
OLDER = {
    "latin-1": "Die Stra\u00dfe f\u00fchrt \u00fcber die Br\u00fccke. Gr\u00f6\u00dfe, Fu\u00df, \u00c4pfel.",
    "cp1252": "Il dit \u00ab No\u00ebl \u00e0 l\u2019\u00e9t\u00e9 \u00bb et c\u2019est d\u00e9j\u00e0 fini.",
    "gb18030": "\u4eca\u5929\u7684\u5929\u6c14\u5f88\u597d\u6211\u4eec\u53bb\u516c\u56ed\u6563\u6b65\u3002",
    "shift-jis": "\u4eca\u65e5\u306f\u5929\u6c17\u304c\u3044\u3044\u306e\u3067\u6563\u6b69\u3057\u307e\u3059\u3002",
    "cp1251": RUSSIAN,
    "koi8-r": RUSSIAN,
}


@pytest.mark.parametrize("encoding", OLDER)
def test_older_encodings_are_found_out(encoding: str, tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes((OLDER[encoding] + "\n").encode(encoding) * 30)
    assert all_lines(path) == [OLDER[encoding]] * 30


def test_letters_that_are_cut_by_the_end_of_the_sample_do_not_change_the_encoding() -> None:
    sample = ("\u4f60\u597d" * 50).encode()
    assert {encoding_of(sample[:length]) for length in range(1, len(sample))} == {"utf-8"}


def test_what_is_no_text_is_named() -> None:
    with pytest.raises(DataError, match="binary"):
        encoding_of(bytes(range(256)) * 50)


def test_bytes_that_are_no_text_are_replaced_and_counted(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(b"good\n" * 60_000 + b"bad \xff\xfe here\n" + "\ufffd of its own\n".encode())
    problems: list[str] = []
    assert all_lines(path, problems=problems)[-2:] == ["bad \ufffd\ufffd here", "\ufffd of its own"]
    assert problems == ["2 bytes are not utf-8"]


def test_all_line_ends_are_one_and_other_separators_are_none(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes("a\r\nb\rc\nd\x0be\x0cf\x85g\u2028h\x1ci".encode())
    assert all_lines(path) == ["a", "b", "c", "d\x0be\x0cf\x85g\u2028h\x1ci"]
    assert text_of(b"a\r\nb\rc\n", None, ignore) == "a\nb\nc\n"


def test_a_mark_at_the_beginning_is_no_letter(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(codecs.BOM_UTF8 + b"a\n")
    assert all_lines(path) == ["a"]


def test_a_line_that_is_too_long_is_left_out_and_the_next_have_their_numbers(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(b"one\n" + b"x" * 3_000_000 + b"\nthree\n" + b"y" * 2_000)
    problems: list[str] = []
    with opened(path) as file:
        found = list(lines(file, None, 1_000, problems.append))
    assert found == [(1, "one"), (3, "three")]
    assert [problem.split(" (")[0] for problem in problems] == [f"line {n} is longer than 0.001 MB" for n in (2, 4)]


def test_a_line_of_just_the_length_that_is_allowed_is_read(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(b"x" * 1000 + b"\n" + b"y" * 999 + b"\n" + b"z" * 1000)
    assert [len(line) for line in all_lines(path, 1_000)] == [1000, 999, 1000]


@pytest.mark.parametrize("suffix", [".gz", ".bz2", ".xz"])
def test_an_empty_file_has_no_lines_or_is_named(suffix: str, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"")
    assert all_lines(tmp_path / "a.txt") == []
    (tmp_path / f"b.txt{suffix}").write_bytes(PACK[suffix](b""))
    assert all_lines(tmp_path / f"b.txt{suffix}") == []
