"""The documentation that comes with Python: real English on every machine, without a download.

The language reference's topics (`pydoc_data.topics`) and the docstrings of the standard library: about two million
characters. One module or topic is one document; its name decides on its split, so no module stands in two.
"""

import ast
import hashlib
import json
import os
import sysconfig
import warnings
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path

from lmexp.data.cache import cache_folder, part_of
from lmexp.data.source import Source
from lmexp.errors import DataError

NOT_DOCUMENTATION = {
    "site-packages",
    "dist-packages",
    "test",
    "tests",
    "idlelib",
    "lib2to3",
    "turtledemo",
    "__pycache__",
}
HELD_OUT = {0: "val", 1: "test"}
KINDS_OF_FUNCTIONS = {"module": "function", "class": "method", "function": "local", "method": "local", "local": "local"}
"""What a function is, by what it is in."""
SHARES = 20  # one twentieth of the modules for each held-out split


class PythonDocs(Source):
    """Documents called by their module or topic."""

    @cached_property
    def _documents(self) -> dict[str, str]:
        return {name: _as_text(entries) for name, entries in self.entries.items()}

    @cached_property
    def entries(self) -> dict[str, list[list[str]]]:
        """All documents by name, each a list of (kind, heading, text); collecting them takes some seconds, so they are
        kept in the cache.
        """
        library = Path(sysconfig.get_path("stdlib"))
        identity = f"{library} {sysconfig.get_config_var('py_version')} {os.stat(library).st_mtime_ns}"
        name = hashlib.blake2b(identity.encode(), digest_size=8).hexdigest()
        path = cache_folder(self.config) / f"python_docs_kinds-{name}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            return json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            entries = dict(sorted([*_modules(library), *_topics()]))
        if not entries:
            raise DataError(f"this Python has no standard library in source form at {library}; use data=text")
        part = part_of(path)
        try:
            part.write_text(json.dumps(entries), encoding="utf-8")
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)
        return entries

    @cached_property
    def fingerprint(self) -> str:
        return hashlib.blake2b(json.dumps(self._documents).encode(), digest_size=8).hexdigest()

    def documents(self, split: str) -> Iterator[str]:
        for name, text in self._documents.items():
            if split_of(name) == split:
                yield text


def split_of(name: str) -> str:
    """Return the split of a module or topic."""
    share = int.from_bytes(hashlib.blake2b(name.encode(), digest_size=4).digest(), "big") % SHARES
    return HELD_OUT.get(share, "train")


def _as_text(entries: list[list[str]]) -> str:
    return "\n".join(f"{heading}\n\n{text}\n" if heading else f"{text}\n" for _, heading, text in entries)


def _topics() -> Iterator[tuple[str, list[list[str]]]]:
    try:
        from pydoc_data.topics import topics
    except ImportError:  # some distributions leave it out
        return
    for name, text in topics.items():
        yield f"topic {name}", [["topic", "", text.strip()]]


def _modules(library: Path) -> Iterator[tuple[str, list[list[str]]]]:
    for path in sorted(library.rglob("*.py")):
        relative = path.relative_to(library)
        if NOT_DOCUMENTATION & set(relative.parts):
            continue
        try:
            with warnings.catch_warnings(action="ignore"):  # else what is read depends on the caller's filters
                tree = ast.parse(path.read_bytes())
        except (OSError, SyntaxError, ValueError):
            continue
        name = ".".join(relative.with_suffix("").parts).removesuffix(".__init__")
        entries = list(_docstrings(tree, name))
        if entries:
            yield f"module {name}", entries


def _docstrings(node: ast.AST, name: str, kind: str = "module") -> Iterator[list[str]]:
    if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
        name = f"{name}.{node.name}"
        kind = "class" if isinstance(node, ast.ClassDef) else KINDS_OF_FUNCTIONS[kind]
    if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
        text = ast.get_docstring(node)
        if text:
            yield [kind, name, text.encode("utf-8", "replace").decode().strip()]
    for child in ast.iter_child_nodes(node):
        if not isinstance(child, ast.expr):  # most of a tree, and no docstring is in one
            yield from _docstrings(child, name, kind)
