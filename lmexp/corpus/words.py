"""The classical steps: words apart, lower case, no punctuation, no stop words. Line ends stay."""

import re
import sys
import unicodedata
from collections.abc import Iterable
from functools import cache
from typing import Any

from lmexp.config.corpus import WordsConfig
from lmexp.errors import MissingPackageError

HAN = re.compile("([\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]+)")


def as_words(text: str, config: WordsConfig, language: str = "en") -> str:
    """Return a text line by line as the words that a config leaves of it, with a space between them.

    Example:
        >>> as_words("The cat, of course, sat.", WordsConfig(lowercase=True, remove_punctuation=True))
        'the cat of course sat'
    """
    stop_words = stop_words_of(tuple(config.remove_stop_words))
    return "\n".join(" ".join(_words(line, config, language, stop_words)) for line in text.split("\n"))


def _words(line: str, config: WordsConfig, language: str, stop_words: frozenset[str]) -> Iterable[str]:
    words = segmented(line, language) if config.segment else line.split()
    if config.lowercase:
        words = [word.lower() for word in words]
    if config.remove_punctuation:
        words = [part for word in words for part in word.translate(_punctuation()).split()]
    if stop_words:
        words = [word for word in words if word.strip(".,;:!?\"'()[]").lower() not in stop_words]
    return words


def segmented(line: str, language: str) -> list[str]:
    """Return the words of a line; together they are the line without its white space."""
    rules = _spacy("xx" if language == "zh" else language)  # spaCy's rules for Chinese take every letter apart
    words: list[str] = []
    for number, part in enumerate(HAN.split(line)):
        is_han = number % 2 == 1
        words += _jieba().cut(part) if is_han else (token.text for token in rules(part) if not token.is_space)
    return words


@cache
def _jieba() -> Any:
    try:
        import jieba
    except ModuleNotFoundError:
        raise MissingPackageError("jieba", "corpus") from None
    jieba.setLogLevel("ERROR")
    jieba.dt.tmp_dir = None
    jieba.initialize()
    return jieba


@cache
def _spacy(language: str) -> Any:
    spacy = _import_spacy()
    try:
        return spacy.blank(language).tokenizer
    except (ImportError, OSError):  # a language of which spaCy has no rules, or needs another package for them
        return spacy.blank("xx").tokenizer


@cache
def stop_words_of(languages: tuple[str, ...]) -> frozenset[str]:
    """Return the stop words of some languages, by spaCy's lists."""
    if not languages:
        return frozenset()
    util = _import_spacy().util
    return frozenset(word for language in languages for word in util.get_lang_class(language).Defaults.stop_words)


def _import_spacy() -> Any:
    try:
        import spacy
    except ModuleNotFoundError:
        raise MissingPackageError("spacy", "corpus") from None
    return spacy


@cache
def _punctuation() -> dict[int, str]:
    """Return a table for str.translate that makes white space of punctuation (P) and symbols (S)."""
    return {code: " " for code in range(sys.maxunicode + 1) if unicodedata.category(chr(code))[0] in "PS"}
