"""What a prompt is to a run: the beginning of a text that goes on, something said that is answered, or a source that
another text is written from.

No torch here.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from lmexp.config.chat import ConversationsConfig
from lmexp.config.model import Kind
from lmexp.config.train import TrainConfig
from lmexp.data.examples import encode
from lmexp.data.messages import Message, Role
from lmexp.data.pairs import source_of
from lmexp.data.templates import Template, template_of
from lmexp.errors import DataError
from lmexp.tokenization import Tokenizer


@dataclass(frozen=True)
class Form(ABC):
    """Prompts as a model reads them."""

    tokenizer: Tokenizer

    @property
    @abstractmethod
    def ends(self) -> frozenset[int]:
        """The tokens that end a text."""

    @abstractmethod
    def ids(self, prompt: str) -> list[int]:
        """Return what the model reads.

        Raises:
            DataError: the prompt cannot be read.
        """

    @abstractmethod
    def shown(self, prompt: str, text: str) -> str:
        """Return a prompt and what follows it, as people read it."""

    def begin(self, ids: Sequence[int]) -> tuple[Sequence[int] | None, Sequence[int]]:
        """Return (the source that is read first, None where there is none; what the text goes on from)."""
        return None, ids


@dataclass(frozen=True)
class Continuation(Form):
    """A text goes on where the prompt stops."""

    @property
    def ends(self) -> frozenset[int]:
        end = self.tokenizer.end_of_document_id
        return frozenset() if end is None else frozenset({end})

    def ids(self, prompt: str) -> list[int]:
        if not prompt:
            first = self.tokenizer.begin_of_text_id
            first = self.tokenizer.end_of_document_id if first is None else first
            if first is None:
                raise DataError("it is empty, and this tokenizer has no token to begin a text with; write a character")
            return [first]
        ids = self.tokenizer.encode(prompt).tolist()
        if not ids:
            raise DataError("it has no tokens: the tokenizer leaves all of it out; write something else")
        return ids

    def shown(self, prompt: str, text: str) -> str:
        return prompt + text


@dataclass(frozen=True)
class Answer(Form):
    """The prompt is what the user says, and an answer follows."""

    template: Template
    system: str | None = None

    @cached_property
    def ends(self) -> frozenset[int]:
        """The token with which the template ends an answer, and that which ends a document."""
        probe = [Message(Role.user, "a"), Message(Role.assistant, "a")]
        (example,) = encode([self.template.render(probe)], self.tokenizer)
        last = set(example.ids[example.is_learned][-1:].tolist())
        return Continuation(self.tokenizer).ends | (last & set(self.tokenizer.special_ids.values()))

    def ids(self, prompt: str) -> list[int]:
        return self.ids_of([Message(Role.user, prompt)])

    def ids_of(self, messages: Sequence[Message]) -> list[int]:
        """Return a conversation and the beginning of an answer."""
        (example,) = encode([self.template.render(self.with_system(messages), asks=True)], self.tokenizer)
        return example.ids.tolist()

    def with_system(self, messages: Sequence[Message]) -> list[Message]:
        """Return a conversation with a system message before it, its own where it has one."""
        has_system = bool(messages) and messages[0].role is Role.system
        if self.system is None or has_system:
            return list(messages)
        return [Message(Role.system, self.system), *messages]

    def shown(self, prompt: str, text: str) -> str:
        return text


@dataclass(frozen=True)
class FromSource(Form):
    """The prompt is a source, and the text is written from it."""

    @property
    def ends(self) -> frozenset[int]:
        assert self.tokenizer.end_of_document_id is not None
        return frozenset({self.tokenizer.end_of_document_id})

    def ids(self, prompt: str) -> list[int]:
        (encoded,) = (self.tokenizer.source or self.tokenizer).encode_literally([prompt.strip()])
        return source_of(encoded, self.tokenizer).tolist()

    def begin(self, ids: Sequence[int]) -> tuple[Sequence[int] | None, Sequence[int]]:
        return ids, list(self.ends)

    def shown(self, prompt: str, text: str) -> str:
        return text


def form_of(config: TrainConfig, tokenizer: Tokenizer) -> Form:
    """Return what prompts are to a run: it does what its task has taught it."""
    if isinstance(config.data, ConversationsConfig):
        return Answer(tokenizer, template_of(config.data.template, tokenizer), config.data.system)
    if config.model.kind is Kind.encoder_decoder:
        return FromSource(tokenizer)
    return Continuation(tokenizer)
