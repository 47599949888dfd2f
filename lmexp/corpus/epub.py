"""The text of an EPUB book: its chapters in the order of the spine. Nothing is unpacked to a disk.

Source: EPUB 3.3, W3C Recommendation, sections 4 and 5 (container and package document)
"""

import posixpath
import re
import zipfile
from collections.abc import Iterator
from typing import IO
from urllib.parse import unquote

from lmexp.errors import DataError

BLOCKS = {
    *("address", "article", "aside", "blockquote", "body", "br", "caption", "dd", "div", "dl", "dt", "figcaption"),
    *("figure", "footer", "h1", "h2", "h3", "h4", "h5", "h6", "header", "hr", "li", "main", "nav", "ol", "p", "pre"),
    *("section", "table", "td", "th", "tr", "ul"),
}
SILENT = {"head", "img", "math", "script", "style", "svg", "title"}
NO_ENTITIES = {"resolve_entities": False, "no_network": True, "load_dtd": False, "huge_tree": False, "recover": True}


def read(file: IO[bytes], max_bytes: int) -> tuple[str, str]:
    """Return the text of a book, a blank line between chapters, and its title.

    Raises:
        DataError: it is no EPUB, is protected, or would unpack to more than `max_bytes`.
    """
    try:
        with zipfile.ZipFile(file) as book:
            chapters = list(_chapters(book, max_bytes))
            title = _title(book, max_bytes)
    except (zipfile.BadZipFile, EOFError, NotImplementedError, RuntimeError, ValueError) as error:
        raise DataError(f"is no EPUB, or a damaged one ({error})") from None
    return "\n\n".join(chapter for chapter in chapters if chapter), title


def _chapters(book: zipfile.ZipFile, max_bytes: int) -> Iterator[str]:
    package_name, package = _package(book, max_bytes)
    files = {item.get("id"): item.get("href") or "" for item in package.iterfind(".//{*}manifest/{*}item")}
    left = max_bytes
    for place in package.iterfind(".//{*}spine/{*}itemref"):
        if place.get("linear") == "no" or place.get("idref") not in files:
            continue
        href = unquote(files[place.get("idref")].partition("#")[0])
        name = posixpath.normpath(posixpath.join(posixpath.dirname(package_name), href))
        if name.startswith(("/", "..")):
            raise DataError(f"names a file outside of itself ({href})")
        page = _read(book, name, left)
        left -= len(page)
        yield text_of(page)


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
    try:
        info = book.getinfo(name)
    except KeyError:
        raise DataError(f"lacks a file that it names ({name})") from None
    with book.open(info) as file:
        data = file.read(max_bytes + 1)  # what the archive says of its sizes may be wrong
    if len(data) > max_bytes:
        raise DataError(f"unpacks to more than {max_bytes / 1e6:g} MB")
    return data


def text_of(page: bytes) -> str:
    """Return all text of an XHTML page; each block on a line of its own."""
    from lxml import etree, html

    if not page.strip():
        return ""
    try:
        root = etree.fromstring(page, etree.XMLParser(**{**NO_ENTITIES, "recover": False}))
    except etree.XMLSyntaxError:
        root = html.document_fromstring(page)
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


def _flat(text: str | None) -> str:
    return re.sub(r"[ \t\r\n]+", " ", text or "")
