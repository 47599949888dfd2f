"""Conversations to learn answers from."""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from typing import ClassVar

from lmexp.config.data import Content, DataConfig, Order, RowFilesConfig, TooLong
from lmexp.config.schema import setting

USUAL_KEYS = (
    *("messages", "conversations", "prompt", "completion", "instruction", "input", "output", "instances", "history"),
    *("chosen", "rejected", "system", "tools"),
)
"""What the known formats are told by."""


class Template(Enum):
    """How a conversation is written as one text."""

    auto = "auto"
    chatml = "chatml"
    llama = "llama"
    alpaca = "alpaca"
    plain = "plain"
    tokenizer = "tokenizer"


@dataclass(kw_only=True)
class ConversationsConfig(DataConfig):
    """What every option with conversations has: how they are written, and how they share rows."""

    content = Content.answers
    examples_per_unit: ClassVar[int] = 1
    """Conversations that stay together in a row."""

    segments: bool = setting(True)
    """Cut attention and LSTM state between conversations that share a row; always true."""
    template: Template = setting(Template.auto)
    """How a conversation is written as one text: chatml and llama (3) have special tokens around each turn, alpaca and
    plain have headings and the tokenizer's end-of-document token after an answer, tokenizer is the model's own Jinja
    template. auto: the tokenizer's own where it has one, else chatml."""
    system: str | None = setting(None)
    """What the system message says in conversations that have none; null for no system message."""
    packing: bool = setting(True)
    """Put several conversations into one row, which do not see each other; false gives each its own row."""
    too_long: TooLong = setting(TooLong.cut)
    """A conversation, or a pair of preferences together, of more than context_length tokens: cut keeps its beginning,
    drop leaves it out; both are counted."""

    def check(self) -> Iterator[tuple[str, str]]:
        yield from super().check()
        if self.order is not Order.shuffled:
            yield "order", "conversations follow on nothing; leave it at shuffled"
        if not self.segments:
            yield "segments", "conversations in one row must not see each other; leave it at true"
        if not self.end_of_document:
            yield "end_of_document", "what stands after an answer is said by data.template; leave it at true"


@dataclass(kw_only=True)
class ChatConfig(ConversationsConfig, RowFilesConfig):
    """Conversations of your own to learn the answers of: .json, .jsonl, .csv, .tsv (each also .gz) or .parquet."""

    name = "chat"
    builds = "lmexp.data.chat:Chat"

    usual_keys = USUAL_KEYS


@dataclass(kw_only=True)
class PreferencesConfig(ChatConfig):
    """Answers of which one is better: rows with prompt, chosen and rejected, in the files that data=chat reads."""

    name = "preferences"
    builds = "lmexp.data.chat:Chat"
    content = Content.preferences
    examples_per_unit = 2


@dataclass(kw_only=True)
class PythonDocsQAConfig(ConversationsConfig):
    """Questions about the running Python's standard library, answered from its docstrings."""

    name = "python_docs_qa"
    builds = "lmexp.data.python_docs_qa:PythonDocsQA"
