"""A web page becomes its main text; one that hangs or breaks the process is an error and the next one goes on."""

import json
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from lmexp.config.corpus import ExtractConfig
from lmexp.corpus.html import extract
from lmexp.corpus.readers import Reader
from lmexp.corpus.sandbox import Sandbox
from lmexp.errors import DataError

STORY = "".join(
    f"<p>This is sentence number {n} of a story about the river and the old town beside it.</p>" for n in range(9)
)
PAGE = f"""<html><head><title>The River</title></head><body>
<nav><ul><li><a href="/a">Home page</a></li><li><a href="/b">Sign up now</a></li></ul></nav>
<article><h1>The River</h1>{STORY}<table><tr><td>Depth of it</td><td>four metres</td></tr></table></article>
<footer>Imprint and privacy</footer><script>var hidden = 1;</script></body></html>"""


@pytest.fixture(scope="module")
def pages() -> Iterator[Sandbox]:
    reader = Sandbox(extract, 5, (b"", True))
    yield reader
    reader.close()


def test_the_text_and_the_title_are_found_and_the_navigation_is_not(pages: Sandbox) -> None:
    text, title = pages(PAGE.encode())
    assert title == "The River"
    assert all(f"sentence number {n} of a story" in text for n in range(9))
    assert not [part for part in ("Home page", "Sign up", "Imprint", "hidden", "<p>") if part in text]


def test_tables_are_kept_when_they_are_asked_for() -> None:
    assert "four metres" in extract(PAGE.encode(), tables=True)[0]
    assert "four metres" not in extract(PAGE.encode(), tables=False)[0]


@pytest.mark.parametrize("encoding", ["utf-8", "iso-8859-1", "utf-16"])
def test_a_page_is_read_in_the_encoding_that_it_names(pages: Sandbox, encoding: str) -> None:
    page = PAGE.replace("<head>", f'<head><meta charset="{encoding}">').replace("old town", "Stra\u00dfe f\u00fcr")
    assert "Stra\u00dfe f\u00fcr" in pages(page.encode(encoding))[0]


@pytest.mark.parametrize(
    "page", [b"", b"  \n", b"\x00\xff" * 200, b"<html>", b"<", b"<!DOCTYPE html><html><body></body>"]
)
def test_a_page_of_nothing_is_empty_or_named(pages: Sandbox, page: bytes) -> None:
    with suppress(DataError):
        assert pages(page)[0] == ""
    assert "story" in pages(PAGE.encode())[0]


@pytest.mark.parametrize("tag", ["div", "table", "b", "ul", "span"])
def test_two_hundred_thousand_tags_within_each_other_do_no_harm(pages: Sandbox, tag: str) -> None:
    start = time.monotonic()
    try:
        text, _ = pages(f"<html><body>{f'<{tag}>' * 200_000}deep{f'</{tag}>' * 200_000}</body></html>".encode())
        assert len(text) < 1000
    except DataError:
        pass
    assert time.monotonic() - start < 15
    assert "story" in pages(PAGE.encode())[0]


def test_a_page_that_takes_too_long_is_named_and_the_next_one_is_read() -> None:
    slow = Sandbox(extract, 1.5, (b"", True))
    try:
        with pytest.raises(DataError, match=r"more than 1\.5 seconds"):
            slow(("<html><body>" + "<p>many words are here <b>and</b> here</p>" * 300_000).encode())
        slow.timeout_seconds = 30
        slow.close()
        assert "story" in slow(PAGE.encode())[0]
    finally:
        slow.close()


def test_closing_twice_or_before_the_first_page_is_nothing() -> None:
    pages = Sandbox(extract, 5, (b"", True))
    pages.close()
    assert "story" in pages(PAGE.encode())[0]
    pages.close()
    pages.close()


def test_a_page_without_text_is_reported(tmp_path: Path) -> None:
    (tmp_path / "a.html").write_text("<html><body><script>x()</script></body></html>")
    problems: list[str] = []
    reader = Reader(ExtractConfig())
    try:
        assert list(reader.read(tmp_path / "a.html", problems.append)) == []
    finally:
        reader.close()
    assert problems == ["has no text beside its navigation"]


def test_real_pages_give_their_text_and_not_what_is_around_it(pages: Sandbox, shared_data: Path) -> None:
    folder = shared_data / "raw-documents" / "html"
    found, absent = [], []
    gold = json.loads((folder / "gold.json").read_text(encoding="utf-8"))
    for page in gold.values():
        text, _ = pages((folder / page["file"]).read_bytes())
        found += [part in text for part in page["with"]]
        absent += [part not in text for part in page["without"]]
    assert len(gold) == 24
    assert sum(found) >= 0.9 * len(found)
    assert sum(absent) >= 0.85 * len(absent)
