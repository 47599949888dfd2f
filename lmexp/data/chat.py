"""Conversations of a user, from files in the usual formats or from a data set of Hugging Face.

Which are held out does not depend on the seed of a run, so runs with different seeds can be compared.
"""

import hashlib
from collections.abc import Iterator
from functools import cached_property

from lmexp.config.chat import ChatConfig
from lmexp.data.conversations import Conversations
from lmexp.data.files import Files
from lmexp.data.formats import conversations_of, pair_of
from lmexp.data.hub import Dataset, fingerprint_of, load_dataset, rows_of
from lmexp.data.messages import Conversation
from lmexp.data.rows import SUFFIXES, Row, read_rows
from lmexp.data.source import SPLITS
from lmexp.errors import DataError

Placed = tuple[str, Conversation]
"""Where a conversation stands, and what it is."""


class Chat(Conversations, Files):
    """Conversations from files, or pairs of them of which the first is better."""

    config: ChatConfig
    suffixes = SUFFIXES

    @cached_property
    def fingerprint(self) -> str:
        return super().fingerprint if self.config.dataset is None else fingerprint_of(self._dataset)

    def conversations(self, split: str) -> Iterator[Placed]:
        has_own = split != "train" and self._has(split)
        splits = [] if has_own else self._split_of
        for number, unit in enumerate(self._read(split if has_own else "train")):
            if has_own or splits[number] == split:
                yield from unit

    @cached_property
    def _split_of(self) -> list[str]:
        """The split of each conversation of the training files; those with the same messages are in the same one, and
        pairs of answers to the same question, too.
        """
        contents = [_digest(unit) for unit in self._read("train")]
        if not contents:
            raise DataError(f"{self._name}: there is no conversation in it; give a file with rows")
        different = sorted(set(contents))
        splits: dict[str, str] = {}
        first = 0
        for split in SPLITS[1:]:
            fraction = 0.0 if self._has(split) else getattr(self.config, f"{split}_fraction")
            last = first + (max(1, round(fraction * len(different))) if fraction else 0)
            splits |= dict.fromkeys(different[first:last], split)
            first = last
        if first >= len(different):
            raise DataError(
                f"{self._name}: {len(contents)} conversations, {len(different)} of them different, are too few to hold "
                "some out; add some, or give data.val_path and data.test_fraction=0"
            )
        return [splits.get(content, "train") for content in contents]

    def _read(self, split: str) -> Iterator[list[Placed]]:
        """Yield what stays together: one conversation, or a pair."""
        together = self.config.examples_per_unit
        for place, row in self._rows(split):
            found = [(place, conversation) for conversation in conversations_of(row, place, self.config)]
            yield from (found[i : i + together] for i in range(0, len(found), together))

    def _rows(self, split: str) -> Iterator[tuple[str, Row]]:
        if self.config.dataset is not None:
            yield from rows_of(self._dataset, split)
            return
        for path in self.files[split]:
            yield from read_rows(path, self.config, pair=pair_of(self.config))

    @property
    def _name(self) -> str | None:
        return self.config.path or self.config.dataset

    def _has(self, split: str) -> bool:
        """Return whether a split has rows of its own."""
        return bool(self.files[split]) if self.config.dataset is None else split in self._dataset

    @cached_property
    def _dataset(self) -> Dataset:
        assert self.config.dataset is not None
        return load_dataset(self.config.dataset)


def _digest(unit: list[Placed]) -> str:
    _, first = unit[0]
    content = first if len(unit) == 1 else first.messages[:-1]
    return hashlib.blake2b(repr(content).encode(), digest_size=8).hexdigest()
