"""What texts begin with, and everything that can be wrong with it."""

import io
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from lmexp.errors import DataError
from lmexp.generation.prompts import read_prompts


def write_file(folder: Path, data: bytes | str, name: str = "prompts.txt") -> str:
    path = folder / name
    path.write_bytes(data if isinstance(data, bytes) else data.encode())
    return str(path)


def test_no_prompt_is_one_empty_prompt() -> None:
    assert read_prompts([]) == [""]


def test_prompts_of_the_command_line_come_before_those_of_the_file(tmp_path: Path) -> None:
    assert read_prompts(["a", "b"], write_file(tmp_path, "c\nd\n")) == ["a", "b", "c", "d"]


def test_a_file_has_a_prompt_a_line_as_it_stands(tmp_path: Path) -> None:
    file = write_file(tmp_path, b"\xef\xbb\xbf  two spaces \r\n\ttab\x0cfeed\xe2\x80\xa8line\n\xe6\xbc\xa2")
    assert read_prompts([], file) == ["  two spaces ", "\ttab\x0cfeed\u2028line", "漢"]


def test_jsonl_has_a_prompt_an_object_that_may_have_lines(tmp_path: Path) -> None:
    file = write_file(tmp_path, '{"prompt": "a\\nb", "id": 3}\n{"prompt": " c"}\n', "prompts.jsonl")
    assert read_prompts([], file) == ["a\nb", " c"]


def test_a_dash_reads_stdin(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(b"a\nb\n")))
    assert read_prompts([], "-") == ["a", "b"]


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("p.txt", "", "p.txt has no prompts: write one a line"),
        ("p.txt", "\n", "p.txt has no prompts: write one a line"),
        ("p.txt", "a\n\nb\n", "p.txt, line 2: the prompt is empty; write something or remove the line"),
        ("p.txt", b"a\nb\xff\n", "p.txt, line 2: not UTF-8; convert the file (iconv -t UTF-8)"),
        ("p.jsonl", '{"prompt": "a"}\n{"prompt": \n', "p.jsonl, line 2: not JSON (Expecting value: line 1 column 12"),
        ("p.jsonl", '["a"]\n', 'p.jsonl, line 1: no text under the key "prompt"; write {"prompt": "..."}'),
        ("p.jsonl", '{"prompt": 3}\n', 'p.jsonl, line 1: no text under the key "prompt"'),
        ("p.jsonl", '{"prompt": ""}\n', "p.jsonl, line 1: the prompt is empty"),
        ("p.jsonl", "[" * 100_000, "p.jsonl, line 1: not JSON"),
    ],
)
def test_a_file_that_cannot_be_used_is_said_with_its_line(
    folder: Path, name: str, data: bytes | str, message: str
) -> None:
    write_file(folder, data, name)
    with pytest.raises(DataError) as caught:
        read_prompts([], name)
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_not_there_or_is_a_folder_is_said(folder: Path) -> None:
    for name, reason in (("none.txt", "No such file or directory"), (".", "Is a directory")):
        with pytest.raises(DataError) as caught:
            read_prompts([], name)
        assert str(caught.value) == f"{name}: the prompts cannot be read: {reason}"


def test_an_empty_prompt_is_refused_where_it_was_written() -> None:
    with pytest.raises(DataError, match="--prompt is empty; leave it out to begin a new document"):
        read_prompts(["a", ""])
