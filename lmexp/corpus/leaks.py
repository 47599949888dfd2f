"""Whether a document holds examples of an evaluation set.

Words are compared as `lmexp evaluate --contamination` compares them. An example is in a document when `ngram_size` of
its words stand there in a row; of a shorter one when all of it does; and when a share of its stretches of 5 words (3 of
a shorter one) stands close together, which finds those that somebody edited.
Source: Brown et al. 2020 (GPT-3), appendix C
"""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lmexp.corpus.opened import lines, opened, suffix_of
from lmexp.corpus.readers import ROWS, rows_of
from lmexp.errors import DataError
from lmexp.tokenization.compared import stretches_of, words_of

LONG, SHORT = 5, 3
"""Words in the stretches of an example that has `ngram_size` words, and of a shorter one."""
SHARE_OF_SHORT = 0.65
FEWEST = 3
"""Stretches that a share must come to at least: of words that repeat there are few."""
MAX_BYTES = 50_000_000


class Leaks:
    """Finds in a text the examples that it was made with, each by the name of its set."""

    def __init__(self, examples: Iterable[tuple[str, str]], *, ngram_size: int, min_words: int, share: float) -> None:
        self.names: list[str] = []
        self._lengths: list[int] = []
        self._ids: dict[str, int] = {}
        self._in_a_row: list[int] = []
        self._in_all: list[float] = []
        by_size: dict[int, list[tuple[NDArray[np.uint64], int]]] = {}
        for name, text in examples:
            words = words_of(text)
            if len(words) < min_words:
                continue
            size = min(LONG if len(words) >= ngram_size else SHORT, len(words))
            ids = np.array([self._ids.setdefault(word, len(self._ids) + 1) for word in words], dtype=np.uint64)
            keys = np.unique(_stretches(ids, size))
            by_size.setdefault(size, []).append((keys, len(self.names)))
            self.names.append(name)
            self._lengths.append(len(words))
            self._in_a_row.append(min(len(words), ngram_size) - size + 1)
            self._in_all.append(max(FEWEST, (share if size == LONG else SHARE_OF_SHORT) * len(keys)))
        self._indexes = [(size, *_index(found)) for size, found in sorted(by_size.items())]

    def in_text(self, text: str) -> str | None:
        """Return the name of a set of which an example is in the text, None when there is none."""
        ids = np.array([self._ids.get(word, 0) for word in words_of(text)], dtype=np.uint64)
        for size, keys, owners in self._indexes:
            if len(ids) < size:
                continue
            wanted = _stretches(ids, size)
            first = np.searchsorted(keys, wanted, side="left")
            last = np.searchsorted(keys, wanted, side="right")
            found = self._found(
                ((int(place), range(first[place], last[place])) for place in np.flatnonzero(last > first)), owners
            )
            if found is not None:
                return self.names[found]
        return None

    def _found(self, matches: Iterable[tuple[int, range]], owners: NDArray[np.int64]) -> int | None:
        """Return an example that is there, given the places of a text and which stretches of examples each is."""
        runs: dict[int, tuple[int, int]] = {}  # of each example the place of its last stretch, and how many in a row
        seen: dict[int, dict[int, int]] = {}  # of each example its stretches, and where each was last
        for place, entries in matches:
            for entry in entries:
                owner = int(owners[entry])
                last, length = runs.get(owner, (-2, 0))
                length = length + 1 if last == place - 1 else 1
                runs[owner] = (place, length)
                stretches = seen.setdefault(owner, {})
                stretches[entry] = place
                near = sum(at > place - 2 * self._lengths[owner] for at in stretches.values())
                if length >= self._in_a_row[owner] or near >= self._in_all[owner]:
                    return owner
        return None


def _index(found: list[tuple[NDArray[np.uint64], int]]) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
    """Return the stretches of all examples in order, and whose each is."""
    keys = np.concatenate([keys for keys, _ in found])
    owners = np.concatenate([np.full(len(keys), owner) for keys, owner in found])
    order = np.argsort(keys, kind="stable")
    return keys[order], owners[order]


def _stretches(ids_N: NDArray[np.uint64], size: int) -> NDArray[np.uint64]:
    """Return a key for each stretch of words; those with a word that no example has get 0."""
    is_known = np.lib.stride_tricks.sliding_window_view(ids_N > 0, size).all(axis=1)
    return np.where(is_known, stretches_of(ids_N, size) | np.uint64(1), np.uint64(0))


def read_examples(sets: dict[str, str]) -> Iterator[tuple[str, str]]:
    """Yield the name of its set and each text of each example.

    Raises:
        DataError: a set cannot be read, or holds nothing.
    """
    for name, where in sets.items():
        count = 0
        for path in files_of(where):
            for text in _texts(path):
                count += 1
                yield name, text
        if not count:
            raise DataError(f"{where}: the evaluation set '{name}' holds no text")


def files_of(where: str) -> list[Path]:
    """Return the files of an evaluation set.

    Raises:
        DataError: there is none.
    """
    path = Path(where).expanduser()
    readable = (".txt", ".md", *ROWS)
    found = sorted(path.rglob("*")) if path.is_dir() else [path] if path.is_file() else []
    found = [file for file in found if file.is_file() and suffix_of(file) in readable]
    if not found:
        raise DataError(f"{where}: no evaluation set is there ({', '.join(readable)}, also packed)")
    return found


def _texts(path: Path) -> Iterator[str]:
    suffix = suffix_of(path)
    try:
        with opened(path) as file:
            if suffix in ROWS:
                for _, row in rows_of(file, suffix, None, MAX_BYTES, _ignore):
                    yield from _strings(row)
            else:
                yield from (line for _, line in lines(file, None, MAX_BYTES, _ignore))
    except DataError as error:
        raise DataError(f"{path}: {error}") from None


def _strings(value: Any) -> Iterator[str]:
    """Yield the texts of a row, however deep they are."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _strings(item)


def _ignore(problem: str) -> None:
    """Say nothing of a broken line of an evaluation set: its other lines are looked for all the same."""
