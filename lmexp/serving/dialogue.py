"""A conversation with a run: what was said, and what the run says next."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from lmexp.checkpoints import LoadedRun
from lmexp.config.chat import Template
from lmexp.data.messages import Message, Role
from lmexp.data.templates import template_of
from lmexp.errors import DataError, RunError
from lmexp.generation.forms import Answer, form_of
from lmexp.generation.prompts import require_writer
from lmexp.generation.sampling import Sampling
from lmexp.generation.text import Text, stream


def answer_of(loaded: LoadedRun) -> Answer:
    """Return how a run is asked: with the template that it was trained with, or that of its tokenizer.

    Raises:
        RunError: it has learned no answers and its tokenizer has no template.
    """
    require_writer(loaded.run)
    form = form_of(loaded.config, loaded.tokenizer)
    if isinstance(form, Answer):
        return form
    if loaded.tokenizer.chat_template is None:
        raise RunError(
            f"{loaded.run.path.name} has learned to go on with texts, not to answer; "
            f"lmexp generate goes on, and lmexp train experiment=sft init_from={loaded.run.path.name} teaches answers"
        )
    return Answer(loaded.tokenizer, template_of(Template.tokenizer, loaded.tokenizer))


class Dialogue:
    """What was said so far."""

    def __init__(self, loaded: LoadedRun, sampling: Sampling) -> None:
        self.loaded, self.sampling = loaded, sampling
        self.form = answer_of(loaded)
        self.messages: list[Message] = []
        self.num_forgotten = 0
        self._seed = sampling.seed

    def reset(self, system: str | None = None) -> None:
        """Begin anew, with another system message if there is one; an empty one is none."""
        self.messages.clear()
        if system is not None:
            self.form = replace(self.form, system=system or None)

    def answer(self, said: str) -> Iterator[str]:
        """Yield the answer as it grows; an answer that is broken off is kept as far as it came.

        Raises:
            DataError: it does not fit into the model's window, or cannot be spelled.
        """
        self.messages.append(Message(Role.user, said))
        try:
            ids = self._fitting()
        except DataError:
            self.messages.pop()
            raise
        text = Text(self.form, ids, self.sampling, self._seed)
        self._seed += 1
        written: list[str] = []
        try:
            for piece in stream(self.loaded.model, text):
                written.append(piece)
                yield piece
        finally:
            self.messages.append(Message(Role.assistant, "".join(written)))

    def as_dict(self) -> dict[str, Any]:
        """Return what was said as data=chat reads it."""
        return {"messages": [{"role": m.role.name, "content": m.content} for m in self.form.with_system(self.messages)]}

    def _fitting(self) -> list[int]:
        """Return the ids of what was said; what was said first is forgotten when all does not fit."""
        kept = self.messages
        most = self.loaded.model.max_length
        while True:
            ids = self.form.ids_of(kept)
            if most is None or len(ids) <= most:
                self.num_forgotten = len(self.messages) - len(kept)
                return ids
            if len(kept) == 1:
                raise DataError(f"that is {len(ids):,} tokens, and the model reads at most {most:,}: say less")
            kept = kept[2:] if kept[1].role is Role.assistant else kept[1:]
