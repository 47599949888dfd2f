"""The text of an EPUB book: its chapters in the order of the spine. Nothing is unpacked to a disk.

Source: EPUB 3.3, W3C Recommendation, sections 4 and 5 (container and package document)
"""

import posixpath
import re
import zipfile
from collections.abc import Iterator
from html.entities import html5
from typing import IO, Any
from urllib.parse import unquote

from lmexp.corpus.opened import Report
from lmexp.errors import DataError

BLOCKS = {
    *("address", "article", "aside", "blockquote", "body", "br", "caption", "dd", "div", "dl", "dt", "figcaption"),
    *("figure", "footer", "h1", "h2", "h3", "h4", "h5", "h6", "header", "hr", "li", "main", "nav", "ol", "p", "pre"),
    *("section", "table", "td", "th", "tr", "ul"),
}
SILENT = {"head", "img", "math", "script", "style", "svg", "title"}
NAMED_ENTITY = re.compile(rb"&([A-Za-z][A-Za-z0-9]{1,31});")
XML_ENTITIES = {"amp", "lt", "gt", "quot", "apos"}
NO_ENTITIES = {"resolve_entities": False, "no_network": True, "load_dtd": False, "huge_tree": True, "recover": True}


def read(file: IO[bytes], max_bytes: int, report: Report) -> tuple[str, str]:
    """Return the text of a book, a blank line between chapters, and its title; `report` is told of lost chapters.

    Raises:
        DataError: it is no EPUB, is protected, or would unpack to more than `max_bytes`.
    """
    try:
        with zipfile.ZipFile(file) as book:
            chapters = list(_chapters(book, max_bytes, report))
            title = _title(book, max_bytes)
    except KeyError as error:
        raise DataError(f"is no EPUB: {str(error.args[0]).lower()}") from None
    except (zipfile.BadZipFile, EOFError, NotImplementedError, RuntimeError, ValueError) as error:
        raise DataError(f"is no EPUB, or a damaged one ({error})") from None
    return "\n\n".join(chapter for chapter in chapters if chapter), title


def _chapters(book: zipfile.ZipFile, max_bytes: int, report: Report) -> Iterator[str]:
    package_name, package = _package(book, max_bytes)
    files = {item.get("id"): item.get("href") or "" for item in package.iterfind(".//{*}manifest/{*}item")}
    left = max_bytes
    for place in package.iterfind(".//{*}spine/{*}itemref"):
        if place.get("linear") == "no" or place.get("idref") not in files:
            continue
        href = unquote(files[place.get("idref")].partition("#")[0])
        name = posixpath.normpath(posixpath.join(posixpath.dirname(package_name), href))
        if name.startswith(("/", "..")):
            report(f"names a file outside of itself ({href})")
            continue
        try:
            page = _read(book, name, left)
        except KeyError:
            report(f"lacks a chapter that it names ({name})")
            continue
        left -= len(page)
        try:
            yield text_of(page)
        except DataError as error:
            report(f"chapter {name} {error}")


def _title(book: zipfile.ZipFile, max_bytes: int) -> str:
    title = _package(book, max_bytes)[1].find(".//{http://purl.org/dc/elements/1.1/}title")
    return "" if title is None else (title.text or "").strip()


def _package(book: zipfile.ZipFile, max_bytes: int):  # type: ignore[no-untyped-def]  # lxml has no types
    """Return the name of the package document, and its root."""
    from lxml import etree

    if "META-INF/encryption.xml" in book.namelist() and b"EncryptedKey" in _read(
        book, "META-INF/encryption.xml", max_bytes
    ):
        raise DataError("is protected against reading")
    container = etree.fromstring(_read(book, "META-INF/container.xml", max_bytes), etree.XMLParser(**NO_ENTITIES))
    rootfile = None if container is None else container.find(".//{*}rootfile")
    name = None if rootfile is None else rootfile.get("full-path")
    if not name:
        raise DataError("is no EPUB: its container names no book")
    package = etree.fromstring(_read(book, name, max_bytes), etree.XMLParser(**NO_ENTITIES))
    if package is None:
        raise DataError("is no EPUB: its package document is empty")
    return name, package


def _read(book: zipfile.ZipFile, name: str, max_bytes: int) -> bytes:
    with book.open(name) as file:
        data = file.read(max_bytes + 1)  # what the archive says of its sizes may be wrong
    if len(data) > max_bytes:
        raise DataError("unpacks to more than a document may have (corpus.extract.max_document_mb)")
    return data


def text_of(page: bytes) -> str:
    """Return all text of an XHTML page; each block on a line of its own.

    Raises:
        DataError: it is nested too deep.
    """
    from lxml import etree

    page = NAMED_ENTITY.sub(_as_utf8, page)
    try:
        root = etree.fromstring(page, etree.XMLParser(**{**NO_ENTITIES, "recover": False}))
    except etree.XMLSyntaxError:
        root = _as_html(page)
    if root is None:
        return ""
    pieces: list[str] = []
    silent = 0  # how many elements around a place show no text
    for event, node in etree.iterwalk(root, events=("start", "end", "comment", "pi")):
        tag = etree.QName(node).localname.lower() if isinstance(node.tag, str) else ""
        silent += (tag in SILENT) * {"start": 1, "end": -1}.get(event, 0)
        pieces.append("\n" if tag in BLOCKS else "")
        if not silent:
            pieces.append(_flat(node.text if event == "start" else node.tail))
    lines = (" ".join(line.split(" ")).strip() for line in "".join(pieces).split("\n"))
    return "\n".join(line for line in lines if line)


def _as_html(page: bytes) -> Any:
    """Return the root of a page that is not well formed, None when there is none."""
    from lxml import etree, html

    try:
        page.decode()
        encoding = "utf-8"
    except UnicodeDecodeError:
        encoding = None  # what the page says, or what the parser guesses
    parser = html.HTMLParser(encoding=encoding, huge_tree=True)
    try:
        root = html.document_fromstring(page, parser)
    except (etree.ParserError, ValueError):
        root = None
    if any("depth" in entry.message for entry in parser.error_log):
        raise DataError("has elements within each other deeper than can be read")
    return root


def _as_utf8(entity: re.Match[bytes]) -> bytes:
    name = entity[1].decode()
    return entity[0] if name in XML_ENTITIES else html5.get(f"{name};", entity[0].decode()).encode()


def _flat(text: str | None) -> str:
    return re.sub(r"[ \t\r\n]+", " ", text or "")
