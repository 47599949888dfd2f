"""The text of a web page without its navigation, by trafilatura, in a process of its own that may hang or die."""

from typing import Any

from lmexp.errors import DataError, MissingPackageError


def extract(page: bytes, tables: bool = True) -> tuple[str, str]:
    """Return the main text of an HTML page and its title; comments of readers are left out."""
    import trafilatura

    found: Any = trafilatura.bare_extraction(page, include_comments=False, include_tables=tables, with_metadata=True)
    if found is None:
        return "", ""
    return found.text or "", found.title or ""


class Pages:
    """Extracts pages one after another; a page that takes too long or breaks the process is an error and no more."""

    def __init__(self, timeout_seconds: float, tables: bool) -> None:
        self.timeout_seconds, self.tables = timeout_seconds, tables
        self._sandbox: Any = None

    def text_of(self, page: bytes) -> tuple[str, str]:
        """Return the main text of a page and its title.

        Raises:
            DataError: it takes too long, or cannot be parsed.
        """
        try:
            import trafilatura  # noqa: F401 - the sandbox forks, and finds it there
        except ModuleNotFoundError:
            raise MissingPackageError("trafilatura", "corpus") from None
        if self._sandbox is None:
            from datatrove.pipeline.extractors.base import ExtractorSandbox

            self._sandbox = ExtractorSandbox(timeout=self.timeout_seconds, warmup_text=(b"", self.tables))
        try:
            text, title = self._sandbox.process_document((page, self.tables), _extract_or_say)
        except TimeoutError:
            raise DataError(f"took more than {self.timeout_seconds:g} seconds") from None
        except EOFError:
            raise DataError("broke the process that read it") from None
        if text is None:
            raise DataError(title)
        return text, title

    def close(self) -> None:
        """End the process."""
        if self._sandbox is not None:
            self._sandbox.__exit__(None, None, None)
            self._sandbox = None


def _extract_or_say(page: bytes, tables: bool) -> tuple[str | None, str]:
    try:
        return extract(page, tables)
    except Exception as error:  # whatever a stranger's page leads to inside the parsers
        return None, f"cannot be parsed: {str(error).strip() or type(error).__name__}"
