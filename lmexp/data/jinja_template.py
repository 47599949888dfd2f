"""A model's own chat template: Jinja from a stranger, run in transformers' sandbox.

A template that marks answers ({% generation %}) says itself what is learned. Of any other it is what an answer adds:
the conversation is written up to the question, with the beginning of an answer after it, and once more with the answer;
the second must begin with the first.
Names of special tokens in what somebody says are text like any other; so that they are not taken for the template's
own, they go through it with a character inside that no text has.
"""

import json
import re
from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from itertools import pairwise
from typing import Any

from lmexp.data.messages import Message, Piece, Role, cut
from lmexp.errors import DataError, MissingPackageError
from lmexp.tokenization import Tokenizer

INSIDE = "\ufdd0"
"""A code point that is no character, for use inside programs."""
MARKS_ANSWERS = re.compile(r"\{%-?\s*generation\s*-?%\}")


class JinjaTemplate:
    """Conversations as a template of transformers writes them."""

    special_tokens: tuple[str, ...] = ()

    def __init__(self, source: str, tokenizer: Tokenizer) -> None:
        self.source, self.tokenizer = source, tokenizer
        self._marks_answers = MARKS_ANSWERS.search(source) is not None

    def render(self, messages: Sequence[Message], tools: str | None = None, *, asks: bool = False) -> list[Piece]:
        if self._marks_answers:
            text, spans = self._write(messages, tools, asks=asks)
            answers = [message for message in messages if message.role is Role.assistant]
            if len(spans) != len(answers):
                raise DataError(f"the chat template marks {len(spans)} answers where there are {len(answers)}")
        else:
            text, spans, answers = self._added(messages, tools, asks=asks)
        borders = [0, *(border for span in spans for border in span), len(text)]
        learned = [None, *(part for answer in answers for part in (answer, None))]
        return [
            replace(piece, text=piece.text.replace(INSIDE, ""))
            for (start, end), answer in zip(pairwise(borders), learned, strict=True)
            for piece in cut(text[start:end], self._special, is_learned=answer is not None and answer.is_answer)
        ]

    def _added(
        self, messages: Sequence[Message], tools: str | None, *, asks: bool
    ) -> tuple[str, list[tuple[int, int]], list[Message]]:
        """Return the text, and what each answer adds to what stands before it."""
        spans, answers = [], []
        whole, _ = self._write(messages, tools, asks=asks)
        for number, message in enumerate(messages):
            if message.role is not Role.assistant:
                continue
            question, _ = self._write(messages[:number], tools, asks=True)
            answered, _ = self._write(messages[: number + 1], tools)
            if not (answered.startswith(question) and whole.startswith(answered)):
                raise DataError(
                    "the chat template writes what was said before otherwise when more is said, so it is not known "
                    "what an answer is; take data.template=chatml"
                )
            spans.append((len(question), len(question) + self._length_of_answer(answered[len(question) :])))
            answers.append(message)
        return whole, spans, answers

    def _length_of_answer(self, added: str) -> int:
        """Return where an answer ends: with its last special token if only white space follows."""
        *_, last = [None, *self._special.finditer(added)]
        return last.end() if last is not None and not added[last.end() :].strip() else len(added)

    def _write(
        self, messages: Sequence[Message], tools: str | None, *, asks: bool = False
    ) -> tuple[str, list[tuple[int, int]]]:
        try:
            from jinja2 import TemplateError
            from transformers.utils.chat_template_utils import render_jinja_template
        except ImportError:
            raise MissingPackageError("transformers", "hf") from None
        rows = [{"role": message.role.name, "content": self._said(message.content)} for message in messages]
        try:
            names: dict[str, Any] = dict(self.tokenizer.special_names)
            written: Any = render_jinja_template(
                [rows],
                chat_template=self.source,
                tools=None if tools is None else self._tools(tools),
                return_assistant_tokens_mask=self._marks_answers,
                add_generation_prompt=asks,
                **names,
            )
        except TemplateError as error:
            raise DataError(f"the chat template refuses: {error}") from None
        except Exception as error:  # whatever a stranger's template leads to
            raise DataError(f"the chat template fails ({type(error).__name__}: {error})") from None
        texts, spans = written
        return texts[0], [(start, end) for start, end in spans[0]] if self._marks_answers else []

    def _tools(self, tools: str) -> list[Any]:
        try:
            described = json.loads(tools)
        except ValueError as error:
            raise DataError(f"the tools are not JSON ({error})") from None
        return described if isinstance(described, list) else [described]

    def _said(self, content: str) -> str:
        if INSIDE in content:
            raise DataError("a message holds U+FDD0, which is no character; remove it")
        return self._special.sub(lambda found: found[0][0] + INSIDE + found[0][1:], content)

    @cached_property
    def _special(self) -> re.Pattern[str]:
        names = sorted(self.tokenizer.special_ids, key=len, reverse=True)
        return re.compile("|".join(map(re.escape, names)) or "(?!)")
