"""Pairs from rows and from two files side by side; numbers in words."""

from pathlib import Path
from typing import Any

import pytest

from lmexp.config.pairs import NumberWordsConfig, PairsConfig
from lmexp.data.number_words import NumberWords, in_words
from lmexp.data.pairs import Pair, Pairs
from lmexp.errors import DataError

TWO = [Pair("ein Haus", "a house"), Pair("zwei", "two")]


def pairs(path: Path, **changes: Any) -> list[Pair]:
    return list(Pairs(PairsConfig(path=str(path), **changes)).read("train"))


def test_rows_of_every_kind_of_file_have_a_source_and_a_target(tmp_path: Path):
    files = {
        "a.tsv": "ein Haus\ta house\nzwei\ttwo\n",
        "b.csv": "source,target\nein Haus,a house\nzwei,two\n",
        "c.jsonl": '{"prompt": "ein Haus", "completion": "a house"}\n{"prompt": "zwei", "completion": "two"}\n',
        "d.json": '[{"document": "ein Haus", "summary": "a house"}, {"document": "zwei", "summary": "two"}]',
    }
    for name, content in files.items():
        (tmp_path / name).write_text(content)
        assert pairs(tmp_path / name) == TWO, name
    (tmp_path / "e.tsv").write_text("to title\tein Haus\ta house\nto title\tzwei\ttwo\n")
    columns: dict[str, Any] = {"column_names": ["task", "a", "b"], "columns": {"source": "a", "target": "b"}}
    assert pairs(tmp_path / "e.tsv", **columns) == TWO


def test_two_files_stand_side_by_side(tmp_path: Path):
    (tmp_path / "train.de").write_text("ein Haus\nzwei\n")
    (tmp_path / "train.en").write_text("a house\r\ntwo")
    beside = {"target_path": str(tmp_path / "train.en")}
    assert pairs(tmp_path / "train.de", **beside) == TWO
    (tmp_path / "train.en").write_text("a house\n")
    with pytest.raises(DataError, match=r"train\.en has 1 lines, and .*train\.de, which stands beside it, has more"):
        pairs(tmp_path / "train.de", **beside)


def test_a_change_in_the_file_beside_is_another_text(tmp_path: Path):
    for name in ("a.de", "a.en"):
        (tmp_path / name).write_text("one\ntwo\nthree\n")
    config = PairsConfig(path=str(tmp_path / "a.de"), target_path=str(tmp_path / "a.en"))
    before = Pairs(config).fingerprint
    (tmp_path / "a.en").write_text("one\ntwo\nfour\n")
    assert Pairs(config).fingerprint != before


def test_a_file_beside_a_split_must_be_given(tmp_path: Path):
    for name in ("a.de", "a.en"):
        (tmp_path / name).write_text("one\n")
    config = PairsConfig(
        path=str(tmp_path / "a.de"),
        target_path=str(tmp_path / "a.en"),
        val_path=str(tmp_path / "a.de"),
        test_target_path=str(tmp_path / "b.en"),
    )
    found = dict(config.check())
    assert "the lines beside" in found["val_target_path"]
    assert "nothing is there" in found["test_target_path"] or "stands beside" in found["test_target_path"]


def test_what_is_no_pair_is_said_with_its_place(tmp_path: Path):
    (tmp_path / "a.jsonl").write_text('{"source": "x", "target": "y"}\n{"source": "x"}\n')
    with pytest.raises(DataError, match=r"line 2 has no column target or tgt or summary .*\(it has source\)"):
        pairs(tmp_path / "a.jsonl")
    (tmp_path / "b.tsv").write_text("one\ttwo\nthree\n")
    with pytest.raises(DataError, match="line 2 has 1 cells between tabs, not 2"):
        pairs(tmp_path / "b.tsv")


@pytest.mark.parametrize(
    ("number", "words"),
    {
        0: "zero",
        13: "thirteen",
        20: "twenty",
        99: "ninety-nine",
        100: "one hundred",
        1001: "one thousand and one",
        110_000: "one hundred and ten thousand",
        312_045: "three hundred and twelve thousand and forty-five",
        2_000_300: "two million three hundred",
    }.items(),
)
def test_numbers_are_said_as_in_english(number: int, words: str):
    assert in_words(number) == words


@pytest.mark.parametrize(("largest", "count"), [(999, 20_000), (999_999, 2_000), (999_999_999, 500)])
def test_no_number_is_on_two_sides(largest: int, count: int):
    source = NumberWords(NumberWordsConfig(largest=largest, num_examples=count))
    sides = [{pair.target for pair in source.pairs(split)} for split in ("train", "val", "test")]
    wanted = min(round(1.1 * count), largest + 1)
    assert sum(map(len, sides)) == wanted == len(set.union(*sides))
    assert len(sides[1]) == len(sides[2]) == wanted // 22
    assert {len(target) for target in sides[0]} == set(range(1, len(str(largest)) + 1))
