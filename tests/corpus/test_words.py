"""The classical steps keep every letter that they are not to take, line by line, in any language."""

import gzip
import json
import re
import unicodedata
from pathlib import Path

import pytest

from lmexp.config.corpus import WordsConfig
from lmexp.corpus.words import as_words, segmented, stop_words_of

BEIJING = "\u6211\u4eec\u4eca\u5929\u53bb\u5317\u4eac\u5927\u5b66\uff0c\u4e0d\u53bb\u4e86\u3002"


def without_space(text: str) -> str:
    return "".join(text.split())


def test_text_of_no_steps_keeps_its_words_and_lines() -> None:
    assert as_words("The  cat,\tof course\n\n sat. ", WordsConfig()) == "The cat, of course\n\nsat."


def test_each_step_does_what_it_says_and_no_more() -> None:
    text = "The Cat didn't cost $5 (or 4,50 \u20ac) \u2014 it's \u201cold\u201d."
    assert as_words(text, WordsConfig(lowercase=True)) == text.lower()
    found = as_words(text, WordsConfig(remove_punctuation=True))
    assert found == "The Cat didn t cost 5 or 4 50 it s old"
    assert as_words("The cat is on the mat", WordsConfig(remove_stop_words=["en"])) == "cat mat"
    assert as_words("The cat, and THE dog.", WordsConfig(remove_stop_words=["en"])) == "cat, dog."


def test_letters_and_numbers_of_every_script_are_no_punctuation() -> None:
    text = "Stra\u00dfe \u4f60\u597d \u0928\u092e\u0938\u094d\u0924\u0947 caf\u00e9 e\u0301 \u0661\u0662 42 \u2460"
    assert as_words(text, WordsConfig(remove_punctuation=True)) == text


def test_no_punctuation_is_left() -> None:
    text = "".join(chr(code) for code in range(0x20, 0x3000) if chr(code).isprintable())
    found = as_words(text, WordsConfig(remove_punctuation=True))
    assert not [letter for letter in found if unicodedata.category(letter)[0] in "PS"]


def test_words_of_languages_with_spaces_are_those_of_their_rules() -> None:
    assert segmented("I don't know, Dr. Who.", "en") == ["I", "do", "n't", "know", ",", "Dr.", "Who", "."]
    assert segmented("Das ist gut, z.B. hier.", "de")[:4] == ["Das", "ist", "gut", ","]


def test_chinese_is_cut_into_words() -> None:
    words = segmented(BEIJING, "zh")
    assert "\u5317\u4eac\u5927\u5b66" in words
    assert "".join(words) == BEIJING
    assert "\u5317\u4eac\u5927\u5b66" in as_words(BEIJING, WordsConfig(segment=True, remove_stop_words=["zh"]), "zh")


@pytest.mark.parametrize("language", ["en", "de", "zh", "ja", "ko", "th", "vi", "ar", "und", "zz", ""])
def test_segmentation_loses_no_letter_in_any_language_or_in_none(language: str) -> None:
    lines = [
        BEIJING,
        "Hello, w\u00f6rld 3.14!",
        "mixed \u6587\u5b57 and words",
        "\u0e2a\u0e27\u0e31\u0e2a\u0e14\u0e35",
        "",
        "a\u3000b",
    ]
    for line in lines:
        assert "".join(segmented(line, language)) == without_space(line), line


@pytest.mark.parametrize("language", ["zh", "ja", "ko", "th"])
def test_english_within_a_text_of_another_script_keeps_its_words(language: str) -> None:
    assert segmented("Hello world 2024", language) == ["Hello", "world", "2024"]


def test_one_sign_of_another_script_does_not_tear_the_words_of_a_line_apart() -> None:
    words = segmented("Die Stra\u00dfe f\u00fchrt nach \u5317\u4eac", "de")
    assert words[:4] == ["Die", "Stra\u00dfe", "f\u00fchrt", "nach"]


def test_lines_stay_lines() -> None:
    text = "One line.\n\n  \nAnother one!\n"
    config = WordsConfig(segment=True, lowercase=True, remove_punctuation=True, remove_stop_words=["en"])
    assert as_words(text, config).count("\n") == text.count("\n")


def test_stop_words_of_several_languages_go_together() -> None:
    assert stop_words_of(()) == frozenset()
    assert {"the", "und"} <= stop_words_of(("en", "de"))
    assert as_words("the cat und der Hund", WordsConfig(remove_stop_words=["en", "de"])) == "cat Hund"


def test_stop_words_that_were_cut_by_segmentation_go_too() -> None:
    assert as_words("It isn't the cat", WordsConfig(segment=True, remove_stop_words=["en"])) == "cat"


def test_chinese_poems_keep_every_letter(shared_data: Path) -> None:
    with gzip.open(shared_data / "chinese-poetry" / "poet.tang.0.json.gz", "rt", encoding="utf-8") as file:
        poems = ["\n".join(poem["paragraphs"]) for poem in json.load(file)]
    assert len(poems) == 1000
    for poem in poems:
        words = as_words(poem, WordsConfig(segment=True), "zh")
        assert without_space(words) == without_space(poem)
        assert words.count("\n") == poem.count("\n")
    assert len(re.findall(" ", as_words(poems[0], WordsConfig(segment=True), "zh"))) > 10
