"""A book is its chapters in the order of the spine; what is broken or hostile is named and does no harm."""

import html
import io
import re
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import pytest

from lmexp.corpus import epub
from lmexp.errors import DataError

CONTAINER = (
    '<container xmlns="urn:oasis:names:tc:opendocument:xmlns:container"><rootfiles>'
    '<rootfile full-path="OPS/book.opf" media-type="application/oebps-package+xml"/></rootfiles></container>'
)
XHTML = '<html xmlns="http://www.w3.org/1999/xhtml"><head><title>unseen</title></head><body>{}</body></html>'
LIMIT = 1_000_000


def ignore(problem: str) -> None:
    """Of lost chapters nothing is asked here."""


def book(
    pages: Mapping[str, str | bytes],
    *,
    hrefs: Sequence[str] | None = None,
    spine: Sequence[str] | None = None,
    more: Mapping[str, str] | None = None,
) -> io.BytesIO:
    """Return an EPUB of these pages; `hrefs` is where its manifest says that they are."""
    hrefs = list(pages) if hrefs is None else hrefs
    items = "".join(f'<item id="i{n}" href="{html.escape(href)}"/>' for n, href in enumerate(hrefs))
    refs = "".join(f'<itemref idref="{name}"/>' for name in spine or [f"i{n}" for n in range(len(hrefs))])
    package = (
        '<package xmlns="http://www.idpf.org/2007/opf"><metadata xmlns:dc="http://purl.org/dc/elements/1.1/">'
        f"<dc:title> A &amp; B </dc:title></metadata><manifest>{items}</manifest><spine>{refs}</spine></package>"
    )
    files = {"META-INF/container.xml": CONTAINER, "OPS/book.opf": package, **(more or {})}
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
        for name, page in pages.items():
            archive.writestr(f"OPS/{name}", page)
    data.seek(0)
    return data


def text_of(page: str | bytes) -> str:
    return epub.read(book({"1.xhtml": page}), LIMIT, ignore)[0]


def test_chapters_come_in_the_order_of_the_spine_with_the_title_of_the_book() -> None:
    pages = {"1.xhtml": XHTML.format("<p>One</p>"), "2.xhtml": XHTML.format("<p>Two</p>")}
    assert epub.read(book(pages, spine=["i1", "i0"]), LIMIT, ignore) == ("Two\n\nOne", "A & B")


def test_a_chapter_whose_name_has_signs_of_an_address_is_found() -> None:
    pages = {"Kapitel \u00e4 1.xhtml": XHTML.format("<p>One</p>")}
    assert epub.read(book(pages, hrefs=["Kapitel%20%C3%A4%201.xhtml#top"]), LIMIT, ignore)[0] == "One"


def test_blocks_are_lines_and_words_stay_whole() -> None:
    page = XHTML.format(
        "<h1>Head</h1><p>Some <b>bo</b>ld\n  and &amp; wr&#233;tched.</p><p>a<br/>b</p><ul><li>x</li><li>y</li></ul>z"
    )
    assert text_of(page) == "Head\nSome bold and & wr\u00e9tched.\na\nb\nx\ny\nz"


def test_scripts_styles_pictures_and_remarks_are_no_text_and_what_follows_them_is() -> None:
    page = XHTML.format(
        "<p>a<script>no()</script>b<style>no</style>c<svg xmlns='http://www.w3.org/2000/svg'><text>no</text></svg>d"
        "<!-- no -->e<?no no?>f</p>"
    )
    assert text_of(page) == "abcdef"


def test_the_named_letters_of_a_page_with_a_doctype_become_letters() -> None:
    doctype = '<!DOCTYPE html PUBLIC "-//W3C//DTD XHTML 1.1//EN" "http://www.w3.org/TR/xhtml11/DTD/xhtml11.dtd">'
    page = doctype + XHTML.format("<p>caf&eacute;&nbsp;au lait &mdash; bon</p>")
    assert re.sub(r"\s", " ", text_of(page)) == "caf\u00e9 au lait \u2014 bon"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "iso-8859-1"])
def test_a_page_is_read_in_the_encoding_that_it_names(encoding: str) -> None:
    page = f'<?xml version="1.0" encoding="{encoding}"?>' + XHTML.format("<p>\u00fcn\u00ef</p>")
    assert text_of(page.encode(encoding)) == "\u00fcn\u00ef"


def test_a_page_that_is_not_well_formed_keeps_its_letters() -> None:
    assert (
        text_of("<html><body><p>Gr\u00fc\u00dfe<b> open<p>two &nbsp;\u4f60") == "Gr\u00fc\u00dfe open\ntwo \xa0\u4f60"
    )


@pytest.mark.parametrize("page", ["", "  \n", "<!-- only a remark -->", '<?xml version="1.0"?>', "<?xml?>"])
def test_a_page_without_text_takes_no_other_page_with_it(page: str) -> None:
    assert epub.read(book({"1.xhtml": page, "2.xhtml": XHTML.format("<p>Two</p>")}), LIMIT, ignore)[0] == "Two"


def test_a_page_of_deep_nesting_is_read_or_named_and_not_lost_in_silence() -> None:
    pages = {"1.xhtml": XHTML.format("<div>" * 3_000 + "deep" + "</div>" * 3_000), "2.xhtml": XHTML.format("Two")}
    said: list[str] = []
    assert epub.read(book(pages), LIMIT, said.append)[0] == "Two"
    assert "1.xhtml" in said[0]
    assert "deeper than can be read" in said[0]


@pytest.mark.parametrize("href", ["../../etc/passwd", "/etc/passwd", "%2e%2e/%2e%2e/etc/passwd", "a/../../../x"])
def test_a_book_reads_no_file_outside_of_itself(href: str) -> None:
    said: list[str] = []
    assert epub.read(book({"1.xhtml": XHTML.format("One")}, hrefs=[href]), LIMIT, said.append)[0] == ""
    assert "outside of itself" in said[0]


def test_an_entity_that_names_a_file_brings_nothing_of_it(tmp_path: Path) -> None:
    secret = tmp_path / "secret.txt"
    secret.write_text("hidden words")
    page = f'<!DOCTYPE html [<!ENTITY x SYSTEM "{secret.as_uri()}">]><html><body><p>a &x; b</p></body></html>'
    assert "hidden" not in text_of(page)


def test_entities_that_multiply_do_not_fill_the_memory() -> None:
    entities = "".join(f'<!ENTITY e{n + 1} "{f"&e{n};" * 10}">' for n in range(9))
    page = f'<!DOCTYPE html [<!ENTITY e0 "aaaaaaaaaa">{entities}]><html><body><p>a &e9; b</p></body></html>'
    with suppress(DataError):
        assert len(text_of(page)) < 10_000


def test_a_book_that_unpacks_to_more_than_the_limit_is_named() -> None:
    bomb = book({"1.xhtml": "a" * 20_000_000})
    assert len(bomb.getvalue()) < 100_000
    with pytest.raises(DataError, match="max_document_mb"):
        epub.read(bomb, LIMIT, ignore)


def test_the_limit_is_for_all_chapters_together_and_named_as_it_was_set() -> None:
    pages = {f"{n}.xhtml": XHTML.format("<p>a</p>" * 50_000) for n in range(3)}
    with pytest.raises(DataError, match="max_document_mb"):
        epub.read(book(pages), LIMIT, ignore)


def test_a_protected_book_is_named() -> None:
    more = {"META-INF/encryption.xml": "<encryption><EncryptedKey/></encryption>"}
    with pytest.raises(DataError, match="protected"):
        epub.read(book({"1.xhtml": XHTML.format("One")}, more=more), LIMIT, ignore)


def test_a_book_whose_fonts_alone_are_obfuscated_is_read() -> None:
    more = {"META-INF/encryption.xml": "<encryption><EncryptedData/></encryption>"}
    assert epub.read(book({"1.xhtml": XHTML.format("One")}, more=more), LIMIT, ignore)[0] == "One"


@pytest.mark.parametrize("damage", ["cut", "flipped", "text", "empty", "no container", "no package"])
def test_what_is_no_book_is_named(damage: str) -> None:
    whole = book({"1.xhtml": XHTML.format("<p>One</p>" * 500)}).getvalue()
    place = whole.index(b"OPS/1.xhtml") + 30
    data = {
        "cut": whole[: len(whole) // 2],
        "flipped": whole[:place] + bytes(byte ^ 255 for byte in whole[place : place + 8]) + whole[place + 8 :],
        "text": b"hello",
        "empty": b"",
        "no container": whole.replace(b"META-INF/container.xml", b"META-INF/containing.xm"),
        "no package": whole.replace(b"OPS/book.opf", b"OPS/took.opf"),
    }[damage]
    with pytest.raises((DataError, zlib.error)):  # of the latter the opened file makes a DataError
        epub.read(io.BytesIO(data), LIMIT, ignore)


def test_a_chapter_that_the_book_lacks_is_named() -> None:
    said: list[str] = []
    pages = {"1.xhtml": XHTML.format("One"), "2.xhtml": XHTML.format("Two")}
    assert epub.read(book(pages, hrefs=["3.xhtml", "2.xhtml"]), LIMIT, said.append)[0] == "Two"
    assert "lacks" in said[0]
    assert "3.xhtml" in said[0]


def test_a_real_book_is_its_chapters_in_order_without_markup(shared_data: Path) -> None:
    with open(shared_data / "raw-documents" / "Metamorphosis-jackson.epub", "rb") as file:
        text, title = epub.read(file, 50_000_000, ignore)
    assert title == "Metamorphosis"
    places = [text.index(part) for part in ("\nCHAPTER I\nOne m", "\nCHAPTER II\n", "\nCHAPTER III\n")]
    begins = [text.rindex(f"\n{chapter}\n") for chapter in ("CHAPTER I", "CHAPTER II", "CHAPTER III")]
    assert places[0] == begins[0] < begins[1] < begins[2]
    assert "when Gregor Samsa woke from troubled dreams" in text
    assert "stretch out her young body" in text[begins[2] :]
    assert len(text) > 110_000
    assert not re.search(r"</?[a-z][^>]*>|&[a-z]+;|&#\d+;", text)
