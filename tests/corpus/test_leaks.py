"""Examples of evaluation sets are found at any place of a document, edited ones too; other documents are clean."""

import gzip
import json
import random
from pathlib import Path

import pytest

from lmexp.corpus.leaks import Leaks, files_of, read_examples
from lmexp.errors import DataError
from tests.timing import assert_time_grows_with_length

WORDS = [f"word{n}" for n in range(3000)]


def sentence(draw: random.Random, length: int) -> str:
    return " ".join(draw.choice(WORDS) for _ in range(length))


def leaks(*examples: str, ngram_size: int = 13, min_words: int = 5, share: float = 0.5) -> Leaks:
    named = [(f"set{n}", example) for n, example in enumerate(examples)]
    return Leaks(named, ngram_size=ngram_size, min_words=min_words, share=share)


@pytest.mark.parametrize("length", [5, 6, 8, 12, 13, 14, 40, 200])
def test_planted_examples_are_found_at_any_place_and_no_others(length: int) -> None:
    draw = random.Random(length)
    examples = [sentence(draw, length) for _ in range(60)]
    found = leaks(*examples)
    for number, example in enumerate(examples):
        before, after = (sentence(draw, draw.choice((0, 0, 1, 7, 100))) for _ in range(2))
        assert found.in_text(f"{before} {example} {after}") == f"set{number}"
        assert found.in_text(f"{before} {sentence(draw, length)} {after}") is None


def test_case_punctuation_and_line_ends_do_not_hide_an_example() -> None:
    example = sentence(random.Random(0), 20)
    for edited in (example.upper(), example.replace(" ", ", "), example.replace(" ", "\n"), f'("{example}")!'):
        assert leaks(example).in_text(f"Before. {edited} After.") == "set0"


@pytest.mark.parametrize("ngram_size", [5, 8, 13])
def test_so_many_words_in_a_row_are_a_leak_and_one_fewer_is_none(ngram_size: int) -> None:
    draw = random.Random(1)
    words = draw.sample(WORDS, 60)
    found = leaks(" ".join(words), ngram_size=ngram_size)
    for first in (0, 17, 60 - ngram_size):
        part = words[first : first + ngram_size]
        assert found.in_text(f"x {' '.join(part)} y") == "set0"
        assert found.in_text(f"x {' '.join(part[1:])} y") is None
        assert found.in_text(f"x {' '.join(part[:2])} y {' '.join(part[2:])} z") is None


def test_an_edited_example_is_found_by_the_share_of_it_that_is_left() -> None:
    words = random.Random(2).sample(WORDS, 48)
    edited = list(words)
    edited[11], edited[23], edited[35] = "other", "words", "here"  # 12 words in a row at most
    text = f"before {' '.join(edited)} after"
    assert leaks(" ".join(words)).in_text(text) == "set0"
    assert leaks(" ".join(words), share=0.9).in_text(text) is None
    every_fourth = [word if n % 4 else "other" for n, word in enumerate(words)]
    assert leaks(" ".join(words)).in_text(" ".join(every_fourth)) is None


def test_a_short_example_is_found_whole_or_with_one_end_cut_and_not_by_its_half() -> None:
    words = random.Random(3).sample(WORDS, 10)
    found = leaks(" ".join(words))
    assert found.in_text(f"x {' '.join(words)} y") == "set0"
    assert found.in_text(" ".join(words[1:])) == "set0"
    assert found.in_text(" ".join(words[:9])) == "set0"
    assert found.in_text(" ".join(words[:5])) is None
    assert found.in_text(" ".join(words[5:])) is None
    assert found.in_text(" ".join(word if n % 3 else "x" for n, word in enumerate(words))) is None
    assert found.in_text(" ".join(reversed(words))) is None


def test_examples_of_few_words_are_not_looked_for() -> None:
    assert leaks("one two three four").in_text("one two three four") is None
    assert leaks("one two three", min_words=3).in_text("zero one two three") == "set0"
    assert leaks("", " ", "...", min_words=1).in_text("one two ...") is None


@pytest.mark.parametrize("text", ["", " ", "...", "a", "one two three four five six seven"])
def test_short_documents_and_no_examples_are_no_leaks(text: str) -> None:
    assert leaks().in_text(text) is None
    assert leaks(sentence(random.Random(0), 20), "a b c d e f").in_text(text) is None


def test_examples_without_spaces_are_found() -> None:
    example = "\u6211\u4eec\u4f4f\u7684\u9152\u5e97\u975e\u5e38\u5e72\u51c0\uff0c\u670d\u52a1\u4e5f\u5f88\u597d"
    assert leaks(example).in_text(f"\u597d\u3002{example}\u3002\u597d") == "set0"
    assert leaks(example).in_text(example[::-1]) is None


def test_five_words_that_say_the_same_are_not_an_example_that_repeats_them_more_often() -> None:
    assert leaks("ha " * 40).in_text("He said ha ha ha ha ha and left.") is None


def test_the_set_of_the_example_is_named() -> None:
    draw = random.Random(5)
    named = [(name, sentence(draw, 15)) for name in ("sst2", "lambada", "sst2")]
    found = Leaks(named, ngram_size=13, min_words=5, share=0.5)
    assert [found.in_text(f"x {example}") for _, example in named] == ["sst2", "lambada", "sst2"]


def test_among_examples_that_all_begin_alike_time_grows_with_the_text() -> None:
    draw = random.Random(6)
    found = leaks(*(f"which of the following is true of {sentence(draw, 20)}" for _ in range(1000)))
    assert_time_grows_with_length(found.in_text, f"which of the following is true {sentence(draw, 8)} ", 4_000)


def test_examples_are_read_from_every_format_and_folder(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("first line\nsecond line\n")
    (tmp_path / "b.jsonl").write_text(json.dumps({"q": "question", "choices": ["x", "y"], "n": 1}) + "\n")
    (tmp_path / "c.csv.gz").write_bytes(gzip.compress(b"text,label\nhello,pos\n"))
    (tmp_path / "d.json").write_text('[{"deep": {"er": ["inside"]}}]')
    (tmp_path / "ignored.png").write_bytes(b"\x89PNG")
    found = list(read_examples({"all": str(tmp_path), "one": str(tmp_path / "a.txt")}))
    assert {name for name, _ in found} == {"all", "one"}
    in_folder = [text for name, text in found if name == "all"]
    assert {"first line", "second line", "question", "x", "y", "hello", "inside"} <= set(in_folder)
    assert [text for name, text in found if name == "one"] == ["first line", "second line"]


def test_a_set_that_is_not_there_or_holds_nothing_is_named(tmp_path: Path) -> None:
    (tmp_path / "empty.txt").write_text("")
    (tmp_path / "broken.json").write_text("{")
    with pytest.raises(DataError, match="nowhere"):
        files_of(str(tmp_path / "nowhere"))
    for name in ("empty.txt", "broken.json"):
        with pytest.raises(DataError, match=name):
            list(read_examples({"a": str(tmp_path / name)}))


def test_every_example_of_a_real_set_is_found_and_other_text_is_clean(shared_data: Path) -> None:
    examples = list(read_examples({"lambada": str(shared_data / "lambada" / "lambada_openai.jsonl")}))
    found = Leaks(examples, ngram_size=13, min_words=5, share=0.5)
    examples = [(name, example) for name, example in examples if len(example.split()) > 20]
    assert len(examples) > 1000
    draw = random.Random(0)
    novel = (shared_data / "tinyshakespeare" / "input.txt").read_text(encoding="utf-8")
    parts = [novel[place : place + 5_000] for place in range(0, 500_000, 5_000)]
    assert [found.in_text(part) for part in parts] == [None] * len(parts)
    for part in parts:
        _, example = draw.choice(examples)
        assert found.in_text(f"{part[:2_000]}\n{example.upper()}\n{part[2_000:]}") == "lambada"
