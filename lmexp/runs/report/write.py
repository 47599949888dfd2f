"""`lmexp report`: one file whose ending says what it is."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lmexp.errors import RunError
from lmexp.runs.folder import replace_file, storage_error
from lmexp.runs.index import Entry
from lmexp.runs.report.content import report_content
from lmexp.runs.report.figures import SUFFIXES, write_figure


def write_report(
    entries: Sequence[Entry], path: str | Path, *, title: str = "lmexp report", command: str = "", **options: Any
) -> Path:
    """Write a report over runs and return its path; `options` are those of `compare`.

    .html is the whole page, .md the tables, .svg, .png and .pdf the learning curves.

    Raises:
        RunError: the ending says nothing, or there is nothing to report.
        StorageError: the file cannot be written.
    """
    path = Path(path).expanduser()
    suffix = path.suffix.lower()
    if suffix not in (".html", ".md", *SUFFIXES):
        raise RunError(f"{path}: choose an ending: .html (the page), .md (tables), {', '.join(SUFFIXES)} (curves)")
    content = report_content(entries, title=title, command=command, **options)
    if suffix in SUFFIXES:
        write_figure(content, path)
        return path
    if suffix == ".md":
        from lmexp.runs.report.markdown import as_markdown as to_text
    else:
        from lmexp.runs.report.page import page as to_text
    try:
        replace_file(path, to_text(content))
    except OSError as error:
        raise storage_error(error, path) from None
    return path
