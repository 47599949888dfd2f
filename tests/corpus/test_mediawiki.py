"""A dump becomes articles without markup, however it is cut off; no article takes long."""

import bz2
import gzip
import io
import random
from contextlib import suppress
from pathlib import Path
from xml.sax.saxutils import escape

import pytest

from lmexp.config.corpus import ExtractConfig
from lmexp.corpus import mediawiki
from lmexp.corpus.mediawiki import plain
from lmexp.corpus.readers import Extracted, Reader
from lmexp.errors import DataError
from tests.timing import assert_time_grows_with_length

HEAD = '<mediawiki xmlns="http://www.mediawiki.org/xml/export-0.11/" version="0.11"><siteinfo/>\n'


def page(number: int, title: str, text: str, space: int = 0, more: str = "") -> str:
    return (
        f"<page><title>{escape(title)}</title><ns>{space}</ns><id>{number}</id>{more}"
        f"<revision><id>1</id><text>{escape(text)}</text></revision></page>\n"
    )


def dump(*pages: str) -> bytes:
    return (HEAD + "".join(pages) + "</mediawiki>").encode()


def test_articles_come_with_their_numbers_and_titles() -> None:
    data = dump(page(1, "A & B", "text <b>a</b>"), page(7, "C", "text c"))
    found = [(number, title, mediawiki.plain(markup)) for number, title, markup, _ in mediawiki.read(io.BytesIO(data))]
    assert found == [("1", "A & B", "text a"), ("7", "C", "text c")]


def test_redirects_and_other_namespaces_are_no_articles() -> None:
    data = dump(
        page(1, "A", "text"),
        page(2, "B", "#REDIRECT [[A]]", more='<redirect title="A"/>'),
        page(3, "C", "#WEITERLEITUNG [[A]]"),
        page(4, "Talk:A", "words", space=1),
        page(5, "Template:A", "words", space=10),
    )
    assert [title for _, title, _, _ in mediawiki.read(io.BytesIO(data))] == ["A"]


@pytest.mark.parametrize("suffix", [".xml", ".xml.gz", ".xml.bz2"])
def test_a_dump_that_is_cut_off_gives_what_is_before_the_cut(suffix: str, tmp_path: Path) -> None:
    draw = random.Random(0)
    pages = (page(n, f"T{n}", " ".join(str(draw.random()) for _ in range(50))) for n in range(3000))
    data = dump(*pages)
    data = {".xml": data, ".xml.gz": gzip.compress(data, 1), ".xml.bz2": bz2.compress(data)}[suffix]
    path = tmp_path / f"dump{suffix}"
    path.write_bytes(data[: len(data) * 3 // 4])
    titles, problem = read_file(path)
    assert problem is not None
    assert "cut off" in problem
    assert len(titles) > 1000
    assert titles == [f"T{n}" for n in range(len(titles))]


def read_file(path: Path) -> tuple[list[str], str | None]:
    """Return the titles of a dump and what was wrong with it."""
    titles: list[str] = []
    try:
        for document in Reader(ExtractConfig()).read(path, lambda problem: None):
            titles.append(document.metadata["title"])
    except DataError as error:
        return titles, str(error)
    return titles, None


@pytest.mark.parametrize("data", [b"", b"hello", b"<rss><channel/></rss>", b"<html><body/></html>", b"\x00\xff"])
def test_what_is_no_dump_is_named(data: bytes) -> None:
    with pytest.raises(DataError, match=r"no MediaWiki dump|damaged"):
        list(mediawiki.read(io.BytesIO(data)))


def test_entities_that_multiply_do_not_fill_the_memory() -> None:
    entities = "".join(f'<!ENTITY e{n + 1} "{f"&e{n};" * 10}">' for n in range(9))
    bomb = f'<!DOCTYPE m [<!ENTITY e0 "aaaaaaaaaa">{entities}]>{HEAD}<page><title>&e9;</title></page></mediawiki>'
    with pytest.raises(DataError, match="damaged"):
        list(mediawiki.read(io.BytesIO(bomb.encode())))


def test_a_dump_without_a_name_for_its_format_is_read_or_named_and_not_passed_over() -> None:
    data = dump(page(1, "A", "text")).replace(b' xmlns="http://www.mediawiki.org/xml/export-0.11/"', b"")
    with suppress(DataError):
        assert len(list(mediawiki.read(io.BytesIO(data)))) == 1


@pytest.mark.parametrize(
    ("markup", "text"),
    [
        ("'''Rye''' is ''a'' [[grass|cereal]], like [[oat]].", "Rye is a cereal, like oat."),
        ("A{{cite|x={{y|z}}}} B<ref name=a>C</ref><ref name=b/> D", "A B D"),
        ("== Head ==\n* one\n* two\n# three", "Head\n\none\ntwo\nthree"),
        ("{| class=x\n! a !! b\n|-\n| 1 || 2\n|}\nAfter", "After"),
        ("[[File:x.jpg|thumb|A [[caption]] text]]Body", "Body"),
        ("[[Category:X]]\n[[de:Foo]]\nBody", "Body"),
        ("See [[:Category:Y|the Ys]]", "See the Ys"),
        ("[http://x.org label] here", "label here"),
        ("a &amp; b &lt;d&gt; &mdash; e", "a & b <d> \u2014 e"),
        ("5 < 6 and 7 > 6", "5 < 6 and 7 > 6"),
        ("x<br>y<br/>z <small>s</small> H<sub>2</sub>O", "x\ny\nz s H2O"),
        ("An <!-- unseen\nremark --> end", "An end"),
        ("__NOTOC__ text", "text"),
        ("Rye (pronounced) and (; , ) oat", "Rye (pronounced) and oat"),
        ("<nowiki>'''</nowiki>a", "a"),
        (
            "[[Star Trek: TNG]], [[AC/DC]] and [[2001: A Space Odyssey]]",
            "Star Trek: TNG, AC/DC and 2001: A Space Odyssey",
        ),
        ("<gallery>\nFile:a.jpg|cap\n</gallery>\nbody", "body"),
    ],
)
def test_markup_becomes_text(markup: str, text: str) -> None:
    assert plain(markup) == text


@pytest.mark.parametrize("opened", ["{{template", "<ref>note", "[[link", "{| table", "[[File:x.jpg|thumb|", "'''bold"])
def test_what_an_author_left_open_takes_no_other_line_with_it(opened: str) -> None:
    text = plain(f"First line.\n{opened} here\nNext line stays.\n\nAnd the last.")
    assert text.startswith("First line.")
    assert text.endswith("Next line stays.\n\nAnd the last.")
    assert not any(mark in text for mark in ("{{", "[[", "<ref", "{|", "'''"))


def test_links_to_files_and_categories_show_no_text_in_other_wikipedias() -> None:
    for markup in (
        "[[Datei:x.jpg|mini|Wort]]Text[[Kategorie:A]]",
        "[[\u0424\u0430\u0439\u043b:x.jpg|thumb|Wort]]Text[[\u041a\u0430\u0442\u0435\u0433\u043e\u0440\u0438\u044f:A]]",
        "[[\u6587\u4ef6:x.jpg|thumb|Wort]]Text[[\u5206\u7c7b:A]]",
    ):
        assert plain(markup) == "Text", markup


@pytest.mark.parametrize("unit", ["\n", " ", "\n (", "(or ", "# \n", "{{", "[[", "'" * 3])
def test_no_text_takes_time_that_grows_with_its_square(unit: str) -> None:
    assert_time_grows_with_length(lambda text: plain(f"a{text}b"), unit)


# mwparserfromhell's tokenizer goes back to each of these again and again.
@pytest.mark.parametrize("unit", ["<ref ", "<p ", "{|\n", "[[a|", "<ref>", "<!--"])
def test_tags_that_nobody_closed_cost_one_article_and_not_the_dump(unit: str, tmp_path: Path) -> None:
    path = tmp_path / "dump.xml"
    path.write_bytes(dump(page(1, "A", "text"), page(2, "B", (unit * 60_000)[:60_000]), page(3, "C", "text")))
    problems: list[str] = []
    reader = Reader(ExtractConfig(timeout_seconds=1))
    assert [one.metadata["title"] for one in reader.read(path, problems.append)] == ["A", "C"]
    reader.close()
    assert problems == ["page 2, B: took more than 1 seconds"]


def test_a_real_dump_becomes_articles_without_markup(shared_data: Path) -> None:
    path = next((shared_data / "raw-documents").glob("enwiki*.bz2"))
    problems: list[str] = []
    articles: list[Extracted] = list(Reader(ExtractConfig()).read(path, problems.append))
    assert len(articles) == 106
    assert not problems
    for article in articles:
        assert article.text.startswith(f"{article.metadata['title']}\n\n")
        found = [
            mark
            for mark in ("{{", "}}", "[[", "]]", "{|", "|}", "<ref", "'''", "<!--", "&nbsp;")
            if mark in article.text
        ]
        assert not found, article.metadata["title"]
    anarchism = next(article.text for article in articles if article.metadata["title"] == "Anarchism")
    assert "Anarchism is a political philosophy that advocates self-governed societies" in anarchism
    assert len(anarchism) > 20_000
