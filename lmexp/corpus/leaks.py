"""Whether a document holds examples of an evaluation set.

Words are compared as `lmexp evaluate --contamination` compares them. An example is in a document when `ngram_size` of
its words stand there in a row; of a shorter one when all of it does; and when a share of its stretches of 5 words does,
which finds those that somebody edited.
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
from lmexp.tokenization.compared import words_of

STRETCH = 5
MAX_BYTES = 50_000_000
MIX = np.uint64(0x9E3779B97F4A7C15)
"""An odd number whose multiples spread over all 64 bits (Knuth 1998, section 6.4)."""


class Leaks:
    """Finds in a text the examples that it was made with, each by the name of its set."""

    def __init__(self, examples: Iterable[tuple[str, str]], *, ngram_size: int, min_words: int, share: float) -> None:
        self.names: list[str] = []
        self._ids: dict[str, int] = {}
        lengths: list[int] = []
        keys_per_example: list[NDArray[np.uint64]] = []
        for name, text in examples:
            words = words_of(text)
            if len(words) < max(min_words, 1):
                continue
            ids = np.array([self._ids.setdefault(word, len(self._ids) + 1) for word in words], dtype=np.uint64)
            keys_per_example.append(np.unique(_stretches(ids, min(STRETCH, len(words)))))
            self.names.append(name)
            lengths.append(len(words))
        self._needed_in_a_row = [min(length, ngram_size) for length in lengths]
        self._needed_in_all = [
            np.inf if length < ngram_size else share * len(keys)
            for length, keys in zip(lengths, keys_per_example, strict=True)
        ]
        owners = np.repeat(np.arange(len(lengths)), [len(keys) for keys in keys_per_example])
        keys = np.concatenate(keys_per_example) if keys_per_example else np.empty(0, dtype=np.uint64)
        order = np.argsort(keys, kind="stable")
        self._keys, self._owners = keys[order], owners[order]
        self._sizes = sorted({min(STRETCH, length) for length in lengths})

    def in_text(self, text: str) -> str | None:
        """Return the name of a set of which an example is in the text, None when there is none."""
        ids = np.array([self._ids.get(word, 0) for word in words_of(text)], dtype=np.uint64)
        for size in self._sizes:
            if len(ids) < size:
                continue
            keys = _stretches(ids, size)
            first = np.searchsorted(self._keys, keys, side="left")
            count = np.searchsorted(self._keys, keys, side="right") - first
            if (found := self._found(first, count, size)) is not None:
                return self.names[found]
        return None

    def _found(self, first_N: NDArray[np.int64], count_N: NDArray[np.int64], size: int) -> int | None:
        """Return an example that is there, given where the keys of each place are among all keys."""
        runs: dict[int, tuple[int, int]] = {}  # of each example the place of its last stretch, and how many in a row
        seen: dict[int, set[int]] = {}
        for place in np.flatnonzero(count_N):
            for entry in range(first_N[place], first_N[place] + count_N[place]):
                owner = int(self._owners[entry])
                last, length = runs.get(owner, (-2, 0))
                length = length + 1 if last == place - 1 else 1
                runs[owner] = (int(place), length)
                seen.setdefault(owner, set()).add(entry)
                if length + size - 1 >= self._needed_in_a_row[owner] or len(seen[owner]) >= self._needed_in_all[owner]:
                    return owner
        return None


def _stretches(ids_N: NDArray[np.uint64], size: int) -> NDArray[np.uint64]:
    """Return a key for each stretch of words; those with a word that no example has get 0."""
    count = len(ids_N) - size + 1
    keys, is_known = np.zeros(count, dtype=np.uint64), np.ones(count, dtype=bool)
    for offset in range(size):
        part = ids_N[offset : offset + count]
        keys = (keys ^ part) * MIX + np.uint64(offset)
        keys ^= keys >> np.uint64(29)
        is_known &= part > 0
    return np.where(is_known, keys | np.uint64(1), np.uint64(0))


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
