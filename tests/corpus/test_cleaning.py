"""Broken text is repaired and sound text is left alone; of a book and a page only what was written stays."""

import json
import unicodedata
from pathlib import Path
from typing import Any

import ftfy
import pytest

from lmexp.config.corpus import CleanConfig, UnicodeForm
from lmexp.corpus.cleaning import clean, language_of, repaired, without_furniture, without_gutenberg
from tests.timing import assert_time_grows_with_length

NOTHING = CleanConfig(mojibake=False, unicode=None, boilerplate=False)
BODY = "\n\n".join(f"Paragraph {n} tells of the river, of the town and of what came after." for n in range(800))
START = "*** START OF THE PROJECT GUTENBERG EBOOK THE RIVER ***"
END = "*** END OF THE PROJECT GUTENBERG EBOOK THE RIVER ***"


def cases(folder: Path, name: str) -> list[dict[str, Any]]:
    return list(json.loads((folder / "raw-documents" / name).read_text(encoding="utf-8")))


def test_text_that_was_decoded_in_the_wrong_way_is_repaired(shared_data: Path) -> None:
    found = cases(shared_data, "ftfy-in-the-wild.json")
    assert len(found) == 70
    for case in found:
        assert repaired(case["original"]) in (case["fixed"], ftfy.fix_encoding(case["original"])), case["label"]


def test_text_that_only_looks_broken_is_left_alone(shared_data: Path) -> None:
    found = cases(shared_data, "ftfy-negative.json")
    assert len(found) == 31
    for case in found:
        assert repaired(case["original"]) in (case["original"], ftfy.fix_encoding(case["original"])), case["label"]


@pytest.mark.parametrize(
    "text",
    ["Gr\u00fc\u00dfe, \u4f60\u597d", "\u201cquoted\u201d \u2014 it\u2019s", "a &amp; &lt;b&gt;", "\ufb01n", "\uff21"],
)
def test_letters_quotes_and_entities_of_sound_text_stay(text: str) -> None:
    assert clean(text, CleanConfig(unicode=None)) == text


def test_a_repair_is_done_only_where_it_is_asked_for() -> None:
    assert clean("caf\u00c3\u00a9", CleanConfig()) == "caf\u00e9"
    assert clean("caf\u00c3\u00a9", NOTHING) == "caf\u00c3\u00a9"


@pytest.mark.parametrize("form", [*UnicodeForm, None])
def test_text_has_the_normal_form_of_the_config(form: UnicodeForm | None) -> None:
    text = "e\u0301\u00e9 \u2460 \u1100\u1161"
    found = clean(text, CleanConfig(mojibake=False, boilerplate=False, unicode=form))
    assert found == (text if form is None else unicodedata.normalize(form.name, text))  # type: ignore[arg-type]


def test_half_a_surrogate_pair_becomes_text_that_can_be_written() -> None:
    clean("a\ud800b", NOTHING).encode()
    assert clean("a\ud800b\udfff", NOTHING) == "a\ufffdb\ufffd"


def test_white_space_and_marks_around_a_text_go_and_within_it_stay() -> None:
    assert clean("\ufeff\n\t a  b\n\n\n c \n", NOTHING) == "a  b\n\n\n c"


def test_cleaning_what_is_clean_changes_nothing() -> None:
    text = f"The Project Gutenberg eBook\n\n{START}\n\nProduced by A\n\n{BODY}\n\n{END}\n\nLicence"
    once = clean(text, CleanConfig())
    assert clean(once, CleanConfig()) == once


@pytest.mark.parametrize(
    ("start", "end"),
    [
        (START, END),
        ("***START OF THE PROJECT GUTENBERG EBOOK THE RIVER***", "***END OF THE PROJECT GUTENBERG EBOOK THE RIVER***"),
        (
            "*** START OF THIS PROJECT GUTENBERG EBOOK THE RIVER ***",
            "End of Project Gutenberg's The River, by A. Author",
        ),
        (
            "*** START OF THE PROJECT GUTENBERG EBOOK THE RIVER\nOR A TOWN ***",
            "End of the Project Gutenberg EBook of X",
        ),
        (
            "*END*THE SMALL PRINT! FOR PUBLIC DOMAIN ETEXTS*Ver.04.29.93*END*",
            "End of Project Gutenberg Etext of The River",
        ),
        ("*END THE SMALL PRINT! FOR PUBLIC DOMAIN ETEXTS*Ver.04.29.93*END*", "End of this Project Gutenberg Etext"),
    ],
)
@pytest.mark.parametrize("size", [500, len(BODY)])
def test_of_a_book_of_project_gutenberg_the_book_stays(start: str, end: str, size: int) -> None:
    text = f"The Project Gutenberg eBook of The River\n\nLegal words.\n\n{start}\n\n{BODY[:size]}.\n\n{end}\n\nLicence"
    assert without_gutenberg(text).strip() == BODY[:size].strip() + "."


def test_who_typed_a_book_is_no_part_of_it() -> None:
    text = f"Gutenberg\n{START}\n\n\nProduced by Ada, Bob\nand Carl at\nhttp://pgdp.net\n\n\nThe River\n\n{BODY}\n{END}"
    assert without_gutenberg(text).strip() == f"The River\n\n{BODY}"


def test_a_start_that_is_not_closed_takes_no_part_of_the_book_with_it() -> None:
    text = f"*** START OF THIS PROJECT GUTENBERG EBOOK THE RIVER\n{BODY[:300]}\n\n*** a break ***\n\nmore"
    assert BODY[:300] in without_gutenberg(text)


@pytest.mark.parametrize("text", ["I read it at Project Gutenberg. *** Good.", "Johannes Gutenberg printed.", BODY])
def test_text_about_gutenberg_stays(text: str) -> None:
    assert without_gutenberg(text) == text


def test_lines_of_a_page_go_and_sentences_with_the_same_words_stay() -> None:
    lines = [
        "Skip to main content",
        "Accept all cookies",
        "Share on Facebook",
        "\u00a9 2024 Acme Inc. All rights reserved.",
    ]
    lines += ["Privacy Policy", "Terms of Service", "Back to top", "This site uses cookies to serve you.", "Read more"]
    sentences = [
        "Read more books than you own.",
        "The privacy policy was long.",
        "We share on Tuesdays.",
        "All rights matter.",
    ]
    text = "\n".join(line for pair in zip(lines, sentences * 3, strict=False) for line in pair)
    assert without_furniture(text).split("\n") == (sentences * 3)[: len(lines)]


@pytest.mark.parametrize(
    "unit",
    [
        *("\n", " ", "*", "** ", "\t\n", "\u00a9 ", "share ", "copyright 2020 a", "&amp;", "\u00c3\u00a2", "\x1b["),
        *("gutenberg\nProduced by\n", "*END*THE SMALL PRINT!\n", f"{START[:-4]}\n", "End of Project Gutenberg "),
    ],
)
def test_no_text_takes_time_that_grows_with_its_square(unit: str) -> None:
    assert_time_grows_with_length(lambda text: clean(f"a{text} gutenberg", CleanConfig()), unit)


@pytest.mark.parametrize(
    ("language", "text"),
    [
        ("en", "The quick brown fox jumps over the lazy dog and goes home to sleep."),
        ("de", "Der schnelle braune Fuchs springt \u00fcber den faulen Hund und geht nach Hause."),
        ("fr", "Le renard brun saute par-dessus le chien paresseux et rentre chez lui."),
        ("zh", "\u4eca\u5929\u5929\u6c14\u5f88\u597d\u6211\u4eec\u53bb\u516c\u56ed\u6563\u6b65"),
        ("es", "El zorro marr\u00f3n salta sobre el perro perezoso y vuelve a su casa."),
    ],
)
def test_the_language_is_named_by_its_code(language: str, text: str) -> None:
    found, score = language_of(f"{text}\n{text}")
    assert found == language
    assert 0.5 < score <= 1.001


def test_the_language_is_that_of_most_of_the_text_and_not_of_its_first_line() -> None:
    german = "Der schnelle braune Fuchs springt \u00fcber den faulen Hund und geht nach Hause. " * 60
    assert language_of("This is the first line.\n" + german)[0] == "de"


@pytest.mark.parametrize("text", ["", " \n", "\x00", "12345", "...", "\U0001f600"])
def test_of_what_has_no_words_the_language_is_not_sure(text: str) -> None:
    assert language_of(text)[1] < 0.7
