"""The text of a web page without its navigation, by trafilatura."""

from typing import Any

from lmexp.errors import MissingPackageError


def extract(page: bytes, tables: bool = True) -> tuple[str, str]:
    """Return the main text of an HTML page and its title; comments of readers are left out."""
    try:
        import trafilatura
    except ModuleNotFoundError:
        raise MissingPackageError("trafilatura", "corpus") from None
    found: Any = trafilatura.bare_extraction(page, include_comments=False, include_tables=tables, with_metadata=True)
    if found is None:
        return "", ""
    return found.text or "", found.title or ""
