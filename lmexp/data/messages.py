"""A conversation: the one form that every format becomes and every template writes."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import Enum

from lmexp.errors import DataError


class Role(Enum):
    """Who speaks."""

    system = "system"
    user = "user"
    assistant = "assistant"
    tool = "tool"


@dataclass(frozen=True)
class Message:
    """What one of them says."""

    role: Role
    content: str
    is_learned: bool = True
    """Whether an answer is trained on; what others say never is."""

    @property
    def is_answer(self) -> bool:
        """Whether it is to be learned."""
        return self.role is Role.assistant and self.is_learned


@dataclass(frozen=True)
class Conversation:
    """Messages in their order."""

    messages: tuple[Message, ...]
    tools: str | None = None
    """Descriptions of functions that the assistant may call, as JSON."""


@dataclass(frozen=True)
class Piece:
    """A part of a conversation as a template writes it: a text, or one special token by its name."""

    text: str
    is_special: bool = False
    is_learned: bool = False


def cut(text: str, special: re.Pattern[str], *, is_learned: bool = False) -> Iterator[Piece]:
    """Yield a text in pieces, cut at the names of special tokens."""
    position = 0
    for found in special.finditer(text):
        if between := text[position : found.start()]:
            yield Piece(between, is_learned=is_learned)
        yield Piece(found[0], is_special=True, is_learned=is_learned)
        position = found.end()
    if rest := text[position:]:
        yield Piece(rest, is_learned=is_learned)


def conversation(messages: Sequence[Message], place: str, tools: str | None = None) -> Conversation:
    """Return a conversation in which everyone speaks in turn; `place` is where it stands.

    Raises:
        DataError: it has no messages, an empty answer, two answers in a row, or a system message that is not the first.
    """
    if not messages:
        raise DataError(f"{place}: a conversation without messages; write one or remove it")
    for number, message in enumerate(messages, start=1):
        before = messages[number - 2].role if number > 1 else None
        if message.role is Role.assistant and not message.content.strip():
            raise DataError(f"{place}: message {number}, an answer, is empty; write one or remove the conversation")
        if message.role is Role.assistant and before is Role.assistant:
            raise DataError(f"{place}: messages {number - 1} and {number} are both answers; join them into one")
        if message.role is Role.system and number > 1:
            raise DataError(f"{place}: message {number} is a system message; it must be the first")
    return Conversation(tuple(messages), tools)
