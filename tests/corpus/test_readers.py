"""Each format gives its documents; what is broken in a file is reported and the rest goes on."""

import csv
import gzip
import io
import json
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest

from lmexp.config.corpus import ExtractConfig, FilesCorpusConfig
from lmexp.config.data import Documents
from lmexp.corpus.readers import FORMATS, Extracted, Reader
from lmexp.errors import DataError


def read(path: Path, data: bytes, **keys: Any) -> tuple[list[Extracted], list[str]]:
    """Write a file, and return its documents and what was reported of it."""
    path.write_bytes(data)
    problems: list[str] = []
    return list(Reader(ExtractConfig(**keys)).read(path, problems.append)), problems


def texts(path: Path, data: bytes, **keys: Any) -> list[str]:
    documents, problems = read(path, data, **keys)
    assert problems == []
    return [document.text for document in documents]


def test_all_formats_of_the_config_are_read() -> None:
    assert set(FORMATS) == set(FilesCorpusConfig.FORMATS)


@pytest.mark.parametrize("name", ["a.pdf", "a", "a.gz", "a.exe.gz"])
def test_other_formats_are_named(name: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="format that is not read here"):
        read(tmp_path / name, b"text")


@pytest.mark.parametrize(
    ("documents", "found"),
    [
        (Documents.file, [("line 1", "\n\na\nb\n\n \nc")]),
        (Documents.line, [("line 3", "a"), ("line 4", "b"), ("line 7", "c")]),
        (Documents.blank_line, [("line 3", "a\nb"), ("line 7", "c")]),
    ],
)
def test_a_text_file_is_one_document_or_one_a_line_or_one_a_paragraph(
    documents: Documents, found: list[tuple[str, str]], tmp_path: Path
) -> None:
    for ends in (b"\n", b"\r\n", b"\r"):
        data = b"\n\na\nb\n\n \nc\n".replace(b"\n", ends)
        read_again, problems = read(tmp_path / "a.txt", data, documents=documents)
        assert [(document.place, document.text) for document in read_again] == found
        assert problems == []


@pytest.mark.parametrize("data", [b"", b"\n", b" \t\n\n", b"\xef\xbb\xbf"])
def test_a_file_of_nothing_has_no_documents(data: bytes, tmp_path: Path) -> None:
    for documents in Documents:
        assert texts(tmp_path / "a.txt", data, documents=documents) == []


def test_of_a_file_larger_than_a_document_every_line_is_kept(tmp_path: Path) -> None:
    data = "".join(f"line {n} of it\n" for n in range(500))
    documents, _ = read(tmp_path / "a.txt", data.encode(), max_document_mb=0.001)
    assert "\n".join(document.text for document in documents) == data.rstrip("\n")
    assert all(len(document.text) <= 1000 for document in documents)
    for document in documents:
        assert document.text.startswith(f"line {int(document.place.removeprefix('line ')) - 1} ")


def test_a_line_that_is_too_long_is_reported_and_the_rest_goes_on(tmp_path: Path) -> None:
    for name, data in (
        ("a.txt", b"one\n" + b"x" * 5000 + b"\nthree\n"),
        ("a.jsonl", b'{"text":"one"}\n{"text":"' + b"x" * 5000 + b'"}\n{"text":"three"}\n'),
        ("a.csv", b"text,id\none,1\n" + b"x" * 5000 + b",2\nthree,3\n"),
    ):
        documents, problems = read(tmp_path / name, data, max_document_mb=0.001, documents=Documents.line)
        assert [document.text for document in documents] == ["one", "three"], name
        assert len(problems) == 1
        assert "longer than 0.001 MB" in problems[0]


def test_what_is_known_of_a_row_is_kept(tmp_path: Path) -> None:
    row = {"text": "a", "id": "x1", "url": "u", "title": "t", "author": "w", "date": "2020", "other": "o"}
    documents, _ = read(tmp_path / "a.jsonl", json.dumps(row).encode())
    kept = {"original_id": "x1", "url": "u", "title": "t", "author": "w", "date": "2020"}
    assert documents == [Extracted("line 1", "a", kept)]


def test_the_number_of_a_row_is_known_also_where_it_is_no_text(tmp_path: Path) -> None:
    documents, _ = read(tmp_path / "a.jsonl", b'{"text":"a","id":7}\n')
    assert str(documents[0].metadata["original_id"]) == "7"


def test_the_text_is_under_the_first_usual_name_or_the_one_that_is_set(tmp_path: Path) -> None:
    line = b'{"review":"r","content":"c","text":null,"question":"q","paragraphs":["p1","p2"]}\n'
    assert texts(tmp_path / "a.jsonl", line) == ["c"]
    assert texts(tmp_path / "a.jsonl", line, text_key="question") == ["q"]
    assert texts(tmp_path / "a.jsonl", line, text_key="paragraphs") == ["p1\np2"]


def test_broken_lines_of_json_are_reported_and_the_rest_goes_on(tmp_path: Path) -> None:
    broken = [
        b"{broken",
        b'{"nothing":1}',
        b"[1,2]",
        b'"s"',
        b"null",
        b'{"text":5}',
        b"[" * 100_000,
        b'{"text":"a',
        b"\xff",
    ]
    for line in broken:
        documents, problems = read(tmp_path / "a.jsonl", b'{"text":"one"}\n' + line + b'\n\n{"text":"two"}\n')
        assert [document.text for document in documents] == ["one", "two"], line[:20]
        assert any(problem.startswith("line 2 ") for problem in problems), line[:20]


def test_a_json_file_is_a_list_or_holds_one_somewhere(tmp_path: Path) -> None:
    assert texts(tmp_path / "a.json", b'[{"text":"a"},{"text":"b"}]') == ["a", "b"]
    assert texts(tmp_path / "a.json", b'{"text":"a"}') == ["a"]
    assert texts(tmp_path / "a.json", b'{"data":{"rows":[{"content":"a"},{"content":"b"}]}}') == ["a", "b"]
    assert texts(tmp_path / "a.json", b'{"a":' * 400 + b'{"text":"x"}' + b"}" * 400) == ["x"]


@pytest.mark.parametrize(
    "data", [b"", b"{", b"[" * 100_000, b'{"a":1}', b'"text"', b"[]", b'[{"text":1}]', b"\xff\xfe\x00"]
)
def test_a_json_file_without_text_is_named(data: bytes, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"is not JSON|holds no text|is binary"):
        read(tmp_path / "a.json", data)


def test_quotes_hold_commas_and_line_ends(tmp_path: Path) -> None:
    rows = [("a, b\nsecond line", "1"), ('he said "hi"', "2"), ("plain", "3")]
    file = io.StringIO(newline="")
    csv.writer(file).writerows([("text", "id"), *rows])
    documents, problems = read(tmp_path / "a.csv", file.getvalue().encode("utf-8-sig"))
    assert [(document.text, document.metadata["original_id"]) for document in documents] == rows
    assert problems == []


def test_rows_of_another_length_are_reported_and_the_rest_goes_on(tmp_path: Path) -> None:
    documents, problems = read(tmp_path / "a.csv", b"id,text\n1,one\n2\n3,three,extra\n\n4,four\n")
    assert [document.text for document in documents] == ["one", "four"]
    assert problems == ["line 3 has 1 fields, and the head 2", "line 4 has 3 fields, and the head 2"]


def test_a_quote_that_is_never_closed_takes_no_more_than_a_document_with_it(tmp_path: Path) -> None:
    data = b'text,id\none,1\n"never closed,2\n' + b"".join(b"row,%d\n" % n for n in range(3, 1000))
    documents, problems = read(tmp_path / "a.csv", data, max_document_mb=0.001)
    assert len(documents) > 500
    assert 0 < len(problems) < 5


def test_quotes_of_a_table_with_tabs_are_letters(tmp_path: Path) -> None:
    data = b'text\tid\n"open\t1\nsay "hi"\t2\n"quoted"\t3\nplain\t4\n'
    documents, _ = read(tmp_path / "a.tsv", data)
    assert [document.metadata["original_id"] for document in documents] == ["1", "2", "3", "4"]


@pytest.mark.parametrize("name", ["a.csv", "a.tsv"])
def test_a_table_without_a_column_of_text_is_named_with_its_columns(name: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"has no column .*first.*text_key"):
        read(tmp_path / name, b"first,second\n1,2\n")


def test_rows_of_parquet_are_documents(tmp_path: Path) -> None:
    rows = [{"text": f"text {n}", "id": str(n), "score": n} for n in range(1000)] + [{"text": None}, {"text": " "}]
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "a.parquet")
    documents, problems = read(tmp_path / "b.parquet", (tmp_path / "a.parquet").read_bytes())
    assert [document.text for document in documents] == [f"text {n}" for n in range(1000)]
    assert documents[41] == Extracted("row 42", "text 41", {"original_id": "41"})
    assert problems == []
    packed = gzip.compress((tmp_path / "a.parquet").read_bytes())
    assert len(read(tmp_path / "a.parquet.gz", packed)[0]) == 1000


@pytest.mark.parametrize("damage", ["empty", "text", "cut", "flipped"])
def test_a_damaged_parquet_file_is_named(damage: str, tmp_path: Path) -> None:
    table = pyarrow.table({"text": [f"text {n * 7919 % 1009}" for n in range(5000)]})
    pyarrow.parquet.write_table(table, tmp_path / "a.parquet", write_page_checksum=True)
    whole = (tmp_path / "a.parquet").read_bytes()
    data = {
        "empty": b"",
        "text": b"hello there",
        "cut": whole[: len(whole) // 2],
        "flipped": whole[:-200] + bytes(byte ^ 255 for byte in whole[-200:-100]) + whole[-100:],
    }[damage]
    with pytest.raises(DataError, match="Parquet"):
        read(tmp_path / "b.parquet", data)


def test_a_parquet_file_without_a_column_of_text_is_named(tmp_path: Path) -> None:
    pyarrow.parquet.write_table(pyarrow.table({"first": [1]}), tmp_path / "a.parquet")
    with pytest.raises(DataError, match=r"has no column .*first"):
        read(tmp_path / "b.parquet", (tmp_path / "a.parquet").read_bytes())


@pytest.mark.parametrize("name", ["a.csv.gz", "a.jsonl.gz", "a.txt.gz"])
def test_a_cut_off_gzip_file_is_named_and_what_is_before_the_cut_is_read(name: str, tmp_path: Path) -> None:
    rows = [f"text{n * 7919 % 100_003}" for n in range(50_000)]
    data = {
        "a.csv.gz": "text,id\n" + "".join(f"{row},1\n" for row in rows),
        "a.jsonl.gz": "".join(f'{{"text": "{row}"}}\n' for row in rows),
        "a.txt.gz": "\n".join(rows),
    }[name]
    packed = gzip.compress(data.encode())
    (tmp_path / name).write_bytes(packed[: len(packed) // 2])
    found: list[str] = []
    reader = Reader(ExtractConfig(documents=Documents.line)).read(tmp_path / name, lambda problem: None)
    with pytest.raises(DataError, match="cut off"):
        found.extend(document.text for document in reader)
    assert len(found) > 10_000
    assert found == rows[: len(found)]


def test_an_encoding_that_is_set_is_used_and_one_that_does_not_exist_is_refused(tmp_path: Path) -> None:
    assert texts(tmp_path / "a.txt", "\u0438".encode("koi8-r"), encoding="koi8-r") == ["\u0438"]
    assert [key for key, _ in ExtractConfig(encoding="no-such-encoding").check()] == ["encoding"]


def test_a_zero_byte_takes_no_other_row_with_it(tmp_path: Path) -> None:
    documents, _ = read(tmp_path / "a.csv", b"text,id\n" + b"row,1\n" * 100 + b"a\x00b,1\n" + b"row,1\n" * 100)
    assert len(documents) >= 200


def test_real_files_of_rows_are_read(shared_data: Path) -> None:
    for name, count in (
        ("raw-documents/c4_demo.jsonl", 300),
        ("chinese-poetry/poet.tang.0.json.gz", 1000),
        ("imdb-sample/texts.csv", 1000),
    ):
        problems: list[str] = []
        documents = list(Reader(ExtractConfig()).read(shared_data / name, problems.append))
        assert len(documents) == count, name
        assert problems == [], name
