"""How a conversation is written as one text, in pieces of which each is known to be learned or not.

What is learned is known by construction: an answer and the token that ends its turn, and nothing else. Names of special
tokens count in what a template writes itself; in what somebody says they are text like any other. The texts of ChatML
and Llama 3 are those of their published templates, Alpaca's that of its training script.
"""

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

from lmexp.config import chat
from lmexp.data.jinja_template import JinjaTemplate
from lmexp.data.messages import Message, Piece, Role, cut
from lmexp.errors import DataError
from lmexp.tokenization import Tokenizer

BEGIN_OF_TEXT, END_OF_DOCUMENT = "<begin of text>", "<end of document>"
"""Stand for the tokenizer's own tokens, which have a name of their own in each; the first is left out where there is
none."""


class Template(Protocol):
    """Writes conversations."""

    @property
    def special_tokens(self) -> tuple[str, ...]:
        """Those that the tokenizer must have."""
        ...

    def render(self, messages: Sequence[Message], tools: str | None = None, *, asks: bool = False) -> list[Piece]:
        """Return a conversation in pieces; with `asks` the beginning of an answer stands at the end.

        Raises:
            DataError: the template cannot write it.
        """
        ...


@dataclass(frozen=True)
class Turns:
    """A text before and one after each message."""

    around: dict[Role, tuple[str, str]]
    end_of_answer: str
    special_tokens: tuple[str, ...] = ()
    begin: str = ""
    system: str | None = None
    """What stands for the system message where there is none."""
    is_stripped: bool = False
    """White space around a message is left out."""

    def render(self, messages: Sequence[Message], tools: str | None = None, *, asks: bool = False) -> list[Piece]:
        pieces = list(self._own(self.begin))
        for message in self._with_system(messages, tools):
            before, after = self.around[message.role]
            content = message.content.strip() if self.is_stripped else message.content
            pieces += self._own(before)
            pieces.append(Piece(content, is_learned=message.is_answer))
            if message.role is Role.assistant:
                pieces.append(Piece(self.end_of_answer, is_special=True, is_learned=message.is_answer))
            pieces += self._own(after)
        if asks:
            pieces += self._own(self.around[Role.assistant][0])
        return pieces

    def as_jinja(self) -> str:
        """Return the same template as transformers takes it, without tools."""
        content = "{{ message['content'] | trim }}" if self.is_stripped else "{{ message['content'] }}"
        parts = [self._literal(self.begin)]
        if self.system is not None:
            before, after = self.around[Role.system]
            system = self._literal(before + self.system + after)
            parts.append("{% if messages[0]['role'] != 'system' %}" + system + "{% endif %}")
        parts.append("{% for message in messages %}")
        for number, (role, (before, after)) in enumerate(self.around.items()):
            said = content
            if role is Role.assistant:
                said = "{% generation %}" + content + self._literal(self.end_of_answer) + "{% endgeneration %}"
            parts.append(f"{{% {'elif' if number else 'if'} message['role'] == '{role.name}' %}}")
            parts += [self._literal(before), said, self._literal(after)]
        asked = self._literal(self.around[Role.assistant][0])
        parts.append("{% endif %}{% endfor %}{% if add_generation_prompt %}" + asked + "{% endif %}")
        return "".join(parts)

    def _literal(self, text: str) -> str:
        named = {BEGIN_OF_TEXT: "bos_token", END_OF_DOCUMENT: "eos_token"}
        return "".join(f"{{{{ {named.get(piece.text) or json.dumps(piece.text)} }}}}" for piece in self._own(text))

    def _with_system(self, messages: Sequence[Message], tools: str | None) -> Iterator[Message]:
        has_system = bool(messages) and messages[0].role is Role.system
        system = messages[0].content if has_system else self.system
        if tools is not None:
            system = f"{system}\n\nTools:\n{tools}" if system else f"Tools:\n{tools}"
        if system is not None:
            yield Message(Role.system, system)
        yield from messages[1:] if has_system else messages

    @cached_property
    def _special(self) -> re.Pattern[str]:
        return re.compile("|".join(map(re.escape, (BEGIN_OF_TEXT, END_OF_DOCUMENT, *self.special_tokens))))

    def _own(self, text: str) -> Iterator[Piece]:
        """Yield the pieces of what the template writes itself."""
        return cut(text, self._special)


CHATML = Turns(
    around={role: (f"<|im_start|>{role.name}\n", "<|im_end|>\n") for role in Role}
    | {Role.assistant: ("<|im_start|>assistant\n", "\n")},
    end_of_answer="<|im_end|>",
    special_tokens=("<|im_start|>", "<|im_end|>"),
)
LLAMA = Turns(
    begin=BEGIN_OF_TEXT,
    around={
        role: (f"<|start_header_id|>{name}<|end_header_id|>\n\n", "" if role is Role.assistant else "<|eot_id|>")
        for role, name in {role: "ipython" if role is Role.tool else role.name for role in Role}.items()
    },
    end_of_answer="<|eot_id|>",
    special_tokens=("<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"),
    is_stripped=True,
)
ALPACA = Turns(
    begin=BEGIN_OF_TEXT,
    system="Below is an instruction that describes a task. Write a response that appropriately completes the request.",
    around={
        Role.system: ("", "\n\n"),
        Role.user: ("### Instruction:\n", "\n\n"),
        Role.tool: ("### Observation:\n", "\n\n"),
        Role.assistant: ("### Response:\n", "\n\n"),
    },
    end_of_answer=END_OF_DOCUMENT,
)
PLAIN = Turns(
    begin=BEGIN_OF_TEXT,
    around={
        Role.system: ("", "\n"),
        Role.user: ("User: ", "\n"),
        Role.tool: ("Tool: ", "\n"),
        Role.assistant: ("Assistant: ", "\n"),
    },
    end_of_answer=END_OF_DOCUMENT,
)
OWN = {
    chat.Template.chatml: CHATML,
    chat.Template.llama: LLAMA,
    chat.Template.alpaca: ALPACA,
    chat.Template.plain: PLAIN,
}


def template_of(name: chat.Template, tokenizer: Tokenizer) -> Template:
    """Return the template of a config for a tokenizer.

    Raises:
        DataError: the tokenizer has no template of its own, or it is no Jinja.
    """
    own = tokenizer.chat_template
    if name is chat.Template.tokenizer and own is None:
        raise DataError(
            "data.template=tokenizer: this tokenizer has no chat template of its own; take one of "
            f"{', '.join(option.name for option in OWN)}"
        )
    if own is not None and name in (chat.Template.tokenizer, chat.Template.auto):
        return JinjaTemplate(own, tokenizer)
    return OWN.get(name, CHATML)


def special_id(name: str, tokenizer: Tokenizer) -> int | None:
    """Return the id of a special token in a template; None for a beginning of text that the tokenizer has no token for.

    Raises:
        DataError: the tokenizer has no such token.
    """
    if name == BEGIN_OF_TEXT:
        return tokenizer.begin_of_text_id
    found = tokenizer.end_of_document_id if name == END_OF_DOCUMENT else tokenizer.special_ids.get(name)
    if found is None:
        what = "end-of-document token" if name == END_OF_DOCUMENT else f"token {name}"
        raise DataError(f"the tokenizer has no {what}, which data.template needs; take data.template=chatml")
    return found
