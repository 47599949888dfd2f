"""Articles of a MediaWiki dump (Wikipedia), streamed, without their markup.

Left out are redirects, pages outside the main namespace, templates, tables, references, files, categories, galleries
and formulas; headings, lists and the text of links stay. What an author left open is taken away to the end of its line.
Source: https://www.mediawiki.org/xml/export-0.11.xsd
"""

import re
from collections.abc import Iterable, Iterator
from typing import IO, Any
from xml.etree import ElementTree

from lmexp.errors import DataError, MissingPackageError

SILENT_TAGS = {
    *("ref", "references", "table", "gallery", "math", "timeline", "imagemap", "score", "hiero", "chem", "ce", "code"),
    *(
        "syntaxhighlight",
        "source",
        "graph",
        "mapframe",
        "maplink",
        "templatestyles",
        "indicator",
        "section",
        "inputbox",
    ),
    *("categorytree", "style", "script"),
}
BLOCK_TAGS = {"p", "br", "hr", "div", "li", "dd", "dt", "blockquote", "center", "poem", "ul", "ol", "dl"}
UNSEEN = frozenset(
    [
        "file",
        "image",
        "media",
        "category",
        "datei",
        "bild",
        "kategorie",
        "fichier",
        "catégorie",
        "archivo",
        "imagen",
        "categoría",
        "immagine",
        "categoria",
        "ficheiro",
        "bestand",
        "categorie",
        "plik",
        "kategoria",
        "файл",
        "изображение",
        "категория",
        "文件",
        "檔案",
        "分类",
        "分類",
        "ファイル",
        "カテゴリ",
    ]
)
"""Namespaces whose links show no text, of the largest Wikipedias; a dump names its own, too."""
UNSEEN_KEYS = {"-2", "6", "14"}
OTHER_LANGUAGE = re.compile(r"[a-z]{2,3}(?:-[a-z]{2,12})?")
REDIRECT = re.compile(r"^\s*#[^\W\d_]+\s*:?\s*\[\[")
LEFT_OVERS = (
    (re.compile(r"<!--.*?(?:-->|$)", re.DOTALL), ""),
    (re.compile(r"<ref\b[^<>]*/>|<ref\b.*?(?:</ref>|$)|</ref>", re.IGNORECASE | re.MULTILINE), ""),
    (re.compile(r"\{\{[^{}\n]*(?:\}\}|$)|\{\{|\}\}", re.MULTILINE), ""),
    (re.compile(r"\[\[(?:[^\[\]\n|]*\|)?([^\[\]\n|]*)\]\]"), r"\1"),
    (re.compile(r"\[\[|\]\]|'{2,}|__[A-Z]{4,}__"), ""),
    (re.compile(r"\{\|[^\n]*|^[ \t]*(?:\||![ \t]).*$|^[ \t]*(?:File|Image):.*$", re.MULTILINE), ""),
    (
        re.compile(
            r"</?(?:nowiki|span|div|blockquote|small|big|sup|sub|center|font|br|p|i|b|u|s|code|tt)\b[^<>]*>",
            re.IGNORECASE,
        ),
        "",
    ),
)
EMPTY_BRACKETS = re.compile(r" ?\((?:\s|[,;:]|or|and){0,20}\)")


def read(file: IO[bytes]) -> Iterator[tuple[str, str, str, list[str]]]:
    """Yield the number of each article, its title, its markup, and what the dump calls `UNSEEN` in its language.

    Raises:
        DataError: the file is no dump, or is cut off; what came before has been yielded.
    """
    names: list[str] = []
    try:
        parser = ElementTree.iterparse(file, events=("start", "end"))
        _, root = next(parser)
        if _name(root) != "mediawiki":
            raise DataError(f"is XML, but no MediaWiki dump (its root is {_name(root)})")
        for event, node in parser:
            if event == "end" and _name(node) == "namespace" and node.get("key") in UNSEEN_KEYS:
                names.append((node.text or "").strip().lower())
            elif event == "end" and _name(node) == "page":
                article = _article(node)
                root.clear()  # else all pages stay in memory
                if article:
                    yield (*article, names)
    except (ElementTree.ParseError, StopIteration) as error:
        raise DataError(f"is cut off or damaged: {error}") from None


def _name(node: ElementTree.Element) -> str:
    return node.tag.rpartition("}")[2]


def _article(page: ElementTree.Element) -> tuple[str, str, str] | None:
    space = page.tag.removesuffix("page")
    text = page.findtext(f"{space}revision/{space}text") or ""
    is_article = page.findtext(f"{space}ns", "0") == "0" and page.find(f"{space}redirect") is None
    if not is_article or REDIRECT.match(text):
        return None
    return page.findtext(f"{space}id", ""), page.findtext(f"{space}title", ""), text


def plain(markup: str, names: Iterable[str] = ()) -> str:
    """Return the text of an article; links to the namespaces with these names show none, as those to `UNSEEN`.

    Example:
        >>> plain("'''Rye''' is a [[grass|cereal]].{{cite}}<ref>A book</ref>")
        'Rye is a cereal.'
    """
    try:
        import mwparserfromhell
    except ModuleNotFoundError:
        raise MissingPackageError("mwparserfromhell", "corpus") from None
    text = "".join(_pieces(mwparserfromhell.parse(markup), UNSEEN.union(names)))
    for pattern, kept in LEFT_OVERS:
        text = pattern.sub(kept, text)
    text = EMPTY_BRACKETS.sub("", text).replace("\xa0", " ")
    lines = (re.sub(r"[ \t]+", " ", line).strip(" \t") for line in text.split("\n"))
    return re.sub(r"\n{3,}", "\n\n", "\n".join(line for line in lines if not line or line.strip("*#:;|!- ")).strip())


def _shows(title: str, unseen: frozenset[str]) -> bool:
    """Return whether a link shows a text: not to a file or a category, nor to the same in another language."""
    space, colon, _ = title.partition(":")
    return not colon or not (space.strip().lower() in unseen or OTHER_LANGUAGE.fullmatch(space.strip()))


def _pieces(code: Any, unseen: frozenset[str]) -> Iterator[str]:
    from mwparserfromhell import nodes

    for node in code.nodes:
        if isinstance(node, nodes.Text):
            yield node.value
        elif isinstance(node, nodes.Wikilink):
            if node.text is not None and _shows(str(node.title), unseen):
                yield from _pieces(node.text, unseen)
            elif _shows(str(node.title), unseen):
                yield "".join(_pieces(node.title, unseen)).lstrip(" :")
        elif isinstance(node, nodes.ExternalLink):
            if node.title is not None:
                yield from _pieces(node.title, unseen)
        elif isinstance(node, nodes.Heading):
            yield "\n" + "".join(_pieces(node.title, unseen)).strip() + "\n"
        elif isinstance(node, nodes.HTMLEntity):
            yield node.normalize()
        elif isinstance(node, nodes.Tag):
            tag = str(node.tag).strip().lower()
            if tag in BLOCK_TAGS and node.wiki_markup is None:
                yield "\n"
            if tag not in SILENT_TAGS and node.contents is not None:
                yield from _pieces(node.contents, unseen)
