"""Conversations of a user, from files in the usual formats to ids with what is learned of them."""

import hashlib
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path

from lmexp.config.chat import ChatConfig
from lmexp.data.examples import Example, encode
from lmexp.data.files import Files
from lmexp.data.formats import conversations_of, pair_of
from lmexp.data.messages import Conversation, Piece
from lmexp.data.rows import SUFFIXES, read_rows
from lmexp.data.source import SPLITS
from lmexp.data.templates import Template, template_of
from lmexp.errors import DataError
from lmexp.tokenization import Tokenizer, token_files, with_special_tokens
from lmexp.tokenization.token_files import SplitCounts


class Chat(Files):
    """Conversations from files."""

    config: ChatConfig
    suffixes = SUFFIXES

    def documents(self, split: str) -> Iterator[str]:
        """Yield what is said in each conversation, to learn a tokenizer from."""
        for _, conversation in self._conversations(split):
            yield "\n".join(message.content for message in conversation.messages)

    def fitting(self, tokenizer: Tokenizer) -> Tokenizer:
        return with_special_tokens(tokenizer, template_of(self.config.template, tokenizer).special_tokens)

    def write(self, folder: Path, split: str, tokenizer: Tokenizer) -> SplitCounts:
        return token_files.write_examples(folder, split, self._examples(split, tokenizer), tokenizer.vocab_size)

    def _examples(self, split: str, tokenizer: Tokenizer) -> Iterator[Example]:
        template = template_of(self.config.template, tokenizer)
        return encode((_written(template, *placed) for placed in self._conversations(split)), tokenizer)

    def _conversations(self, split: str) -> Iterator[tuple[str, Conversation]]:
        if self.files[split] and split != "train":
            yield from self._read(split)
            return
        for number, placed in enumerate(self._read("train")):
            if self._split_of[number] == split:
                yield placed

    @cached_property
    def _split_of(self) -> list[str]:
        """The split of each conversation; those with the same messages are in the same one."""
        contents = [hashlib.blake2b(repr(c).encode(), digest_size=8).hexdigest() for _, c in self._read("train")]
        if not contents:
            raise DataError(f"{self.config.path}: there is no conversation in it")
        different = sorted(set(contents))
        splits: dict[str, str] = {}
        first = 0
        for split in SPLITS[1:]:
            fraction = 0.0 if self.files[split] else getattr(self.config, f"{split}_fraction")
            last = first + (max(1, round(fraction * len(different))) if fraction else 0)
            splits |= dict.fromkeys(different[first:last], split)
            first = last
        if first >= len(different):
            raise DataError(f"{self.config.path}: {len(different)} conversations are too few to hold some of them out")
        return [splits.get(content, "train") for content in contents]

    def _read(self, split: str) -> Iterator[tuple[str, Conversation]]:
        for path in self.files[split]:
            for place, row in read_rows(path, self.config, pair=pair_of(self.config)):
                for conversation in conversations_of(row, place, self.config):
                    yield place, conversation


def _written(template: Template, place: str, conversation: Conversation) -> list[Piece]:
    try:
        return template.render(conversation.messages, conversation.tools)
    except DataError as error:
        raise DataError(f"{place}: {error}") from None
