"""Files of a user, and which of them are held out."""

import hashlib
import os
import re
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import ClassVar

from lmexp.config.data import FilesConfig
from lmexp.data.file_text import digest
from lmexp.data.source import SPLITS, Source
from lmexp.errors import DataError

NAMES_OF_SPLITS = {"train": "train", "val": "val", "valid": "val", "validation": "val", "dev": "val", "test": "test"}
SHARD = re.compile(r"[-_]\d+(-of-\d+)?$")
ABOUT_THE_TEXT = {"readme", "license"}
CORPUS = "corpus.json"
"""What `lmexp prepare` writes beside data/, the folder of its text."""


class Files(Source):
    """Documents from files."""

    config: FilesConfig
    suffixes: ClassVar[tuple[str, ...]]
    """The formats that are taken from a folder, each also with .gz after it."""

    @cached_property
    def files(self) -> dict[str, list[Path]]:
        """The files of each split; a split without files of its own is taken from those of train."""
        assert self.config.path is not None
        found = find_files(self.config.path, self.suffixes)
        card = corpus_of(self.config.path)
        files = _by_name(self.config.path if card is None else str(card.parent / "data"), found)
        for split in ("val", "test"):
            own = getattr(self.config, f"{split}_path")
            if own is not None:
                files[split] = find_files(own, self.suffixes)
                held_out = {path.resolve() for path in files[split]}
                files["train"] = [path for path in files["train"] if path.resolve() not in held_out]
        if not files["train"]:
            raise DataError(
                f"{self.config.path}: nothing is left to train on; data.val_path or data.test_path take all"
            )
        return files

    @cached_property
    def fingerprint(self) -> str:
        whole = hashlib.blake2b(digest_size=8)
        for split, paths in self.files.items():
            for path in paths:
                whole.update(f"{split} {self.reader_of(path)} {digest(path)}\n".encode())
        return whole.hexdigest()

    def reader_of(self, path: Path) -> str:
        """Return the suffix that says how a file is read."""
        return kind(path)


def _by_name(pattern: str, found: list[Path]) -> dict[str, list[Path]]:
    """Return the files of each split by the names of files and folders: train.txt, ptb.valid.txt, test/1.txt."""
    root = Path(pattern).expanduser()
    files: dict[str, list[Path]] = {split: [] for split in SPLITS}
    others = []
    for path in found:
        split = _split_of(path.relative_to(root) if root.is_dir() else Path(path.name))
        if split:
            files[split].append(path)
        elif path.name.split(".")[0].lower() not in ABOUT_THE_TEXT:
            others.append(path)
    if not files["val"] and not (files["train"] and files["test"]):
        return {"train": found, "val": [], "test": []}
    if files["train"] and not others:
        return files
    if not root.is_dir():
        return {"train": found, "val": [], "test": []}
    named = [*files["val"], *files["test"], *files["train"]][0].relative_to(root)
    problem = f"but {others[0].relative_to(root)} is not" if others else "but none for train"
    raise DataError(
        f"{root}: {named} is named for a split, {problem}; name the files of each split with data.path, data.val_path "
        f"and data.test_path, or take all as one text with data.path='{root}/**/*{found[0].suffix}'"
    )


def _split_of(path: Path) -> str | None:
    words = [SHARD.sub("", word) for part in path.parts for word in part.lower().split(".")]
    return next((NAMES_OF_SPLITS[word] for word in words if word in NAMES_OF_SPLITS), None)


def corpus_of(path: str | None) -> Path | None:
    """Return the corpus.json of a folder that `lmexp prepare` has made, None for other text."""
    manifest = Path(path or "").expanduser() / CORPUS
    return manifest if path and manifest.is_file() else None


def find_files(pattern: str, suffixes: tuple[str, ...]) -> list[Path]:
    """Return the files that a path, a folder or a glob names, in the order of their names.

    Of a folder, hidden files are left out: copies of editors and resource forks of macOS. A link to nothing is taken,
    so that reading it fails, for text would be missing without it.

    Raises:
        DataError: there is none.
    """
    path = Path(pattern).expanduser()
    try:
        if path.is_file():
            return [path]
        if (path / CORPUS).is_file():
            path = path / "data"
        if path.is_dir():
            found = [p for p in _walk(path) if kind(p) in suffixes]
        else:
            found = list(Path(path.anchor).glob(str(path.relative_to(path.anchor))))
    except (OSError, ValueError) as error:
        where = getattr(error, "filename", None) or pattern
        raise DataError(f"{where}: cannot be read: {getattr(error, 'strerror', None) or error}") from None
    found = sorted(p for p in found if p.is_file() or (p.is_symlink() and not p.exists()))
    if not found and path.is_dir():
        raise DataError(f"{path}: the folder holds no {', '.join(suffixes)} file (each also as .gz)")
    if not found:
        raise DataError(f"{pattern}: no file is there")
    return found


def kind(path: Path) -> str:
    """Return the suffix of a file, that before .gz if it has both."""
    suffix = path.suffix.lower()
    return Path(path.stem).suffix.lower() if suffix == ".gz" else suffix


def _walk(folder: Path) -> Iterator[Path]:
    def fail(error: OSError) -> None:
        raise error

    for root, folders, names in os.walk(folder, onerror=fail):
        folders[:] = [name for name in folders if not name.startswith(".")]
        yield from (Path(root, name) for name in names if not name.startswith("."))
