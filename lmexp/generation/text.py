"""From prompts to texts: one at once, one as it grows, or many in batches."""

import random
import re
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from lmexp.errors import DataError
from lmexp.generation.beams import search
from lmexp.generation.forms import Form
from lmexp.generation.rows import Rows, evaluating, read_sources
from lmexp.generation.sampling import Sampling, choose
from lmexp.models.state import LanguageModel

NOT_SHOWN = re.compile("[\0-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
"""Control characters but tab and newline, and those that turn the direction of writing."""


@dataclass(frozen=True, kw_only=True)
class Completion:
    """What follows a prompt."""

    prompt: str
    text: str
    """Cut before the stop string, if one ended it."""
    tokens: list[int]
    """All that were chosen, but not the one that ends the document."""
    seed: int | None
    """None for beam search, which draws nothing."""
    finish_reason: str
    """end: the document ended; stop: a stop string came; length: max_tokens were chosen."""
    score: float | None = None
    """Of beam search: the sum of the log-probabilities / length ** length_penalty. Unit: nats."""

    def as_dict(self) -> dict[str, Any]:
        """Return what JSON shows: the seed where there is one, else the score."""
        left_out = "seed" if self.seed is None else "score"
        return {key: value for key, value in asdict(self).items() if key != left_out}


class Text:
    """A text as it grows.

    Tokens are decoded after those before them, for a tokenizer of words puts spaces between.
    """

    def __init__(self, form: Form, ids: Sequence[int], sampling: Sampling, seed: int = 0) -> None:
        self.form, self.tokenizer, self.sampling, self.seed = form, form.tokenizer, sampling, seed
        self.ids = ids
        self.source, self.prompt = form.begin(ids)
        self.tokens: list[int] = []
        self.finish_reason: str | None = None
        self._random = random.Random(seed)
        self._before, self._new = self.prompt, list[int]()
        self._text, self._held, self._num_taken = "", "", 0

    def draw(self) -> float:
        """Return the next random number in (0, 1], from a generator of this text's own."""
        return 1.0 - self._random.random()

    def add(self, *tokens: int) -> None:
        """Go on with tokens; one that ends the document comes last and is not kept."""
        for token in tokens:
            if token in self.form.ends:
                self.finish("end")
                return
            self.tokens.append(token)
            self._new.append(token)
        if self.sampling.stop:
            self._decode()
        if self.finish_reason is None and len(self.tokens) == self.sampling.max_tokens:
            self.finish("length")

    def finish(self, reason: str) -> None:
        """End the text, unless what is left of it holds a stop string."""
        self._decode(is_last=True)
        self.finish_reason = self.finish_reason or reason
        self._text, self._held = self._text + self._held, ""

    def take(self) -> str:
        """Return what has come since the last call, each character once all its bytes are there."""
        self._decode()
        start, self._num_taken = self._num_taken, len(self._text)
        return self._text[start:]

    @property
    def text(self) -> str:
        """All of the text."""
        self._decode(is_last=True)
        return self._text

    def _decode(self, is_last: bool = False) -> None:
        """Decode the new tokens; the end of the text is held back that may be the beginning of a stop string."""
        if not self._new or self.finish_reason is not None:
            return
        piece = self.tokenizer.decode([*self._before, *self._new])[len(self.tokenizer.decode(self._before)) :]
        if piece.endswith("\ufffd") and not is_last:
            return
        self._before, self._new = self._new, []
        self._held += piece
        found = [(at + len(stop), at) for stop in self.sampling.stop if (at := self._held.find(stop)) >= 0]
        if found:  # the one that is whole first, as if the characters came one by one
            self._text, self._held, self.finish_reason = self._text + self._held[: min(found)[1]], "", "stop"
        else:
            settled = len(self._held) - _begun(self._held, self.sampling.stop)
            self._text, self._held = self._text + self._held[:settled], self._held[settled:]


def _begun(text: str, stops: Sequence[str]) -> int:
    """Return how many characters at the end of a text may be the beginning of a stop string."""
    longest = min(len(text), max(map(len, stops), default=1) - 1)
    return next((n for n in range(longest, 0, -1) if any(stop.startswith(text[-n:]) for stop in stops)), 0)


def generate(model: LanguageModel, form: Form, prompt: str, sampling: Sampling) -> str:
    """Return the text that follows a prompt."""
    return next(complete(model, form, [prompt], sampling)).text


def write(model: LanguageModel, form: Form, prompt: str, sampling: Sampling) -> Iterator[str]:
    """Yield the prompt and then the text as it grows, without control characters that a terminal would obey.

    Of a prompt that is answered only the answer.
    """
    ids = read(model, form, prompt)
    yield printable(form.shown(prompt, ""))
    yield from map(printable, stream(model, Text(form, ids, sampling, sampling.seed)))


def stream(model: LanguageModel, text: Text) -> Iterator[str]:
    """Yield a text as it grows."""
    with evaluating(model):
        for _ in sample(model, [text], text.sampling):
            if new := text.take():
                yield new


def printable(text: str) -> str:
    """Return the text without control characters that a terminal would obey."""
    return NOT_SHOWN.sub("\ufffd", text)


def complete(
    model: LanguageModel,
    form: Form,
    prompts: Sequence[str],
    sampling: Sampling,
    *,
    num_samples: int = 1,
    batch_size: int = 32,
) -> Iterator[Completion]:
    """Yield what follows each prompt, in their order: so many samples of each, with the seeds from `sampling.seed` on.

    The samples of a beam search are the best texts that it found.

    Raises:
        ConfigError: the samples would be alike, or there are fewer beams.
        DataError: a prompt cannot be read; nothing is generated then.
    """
    sampling.require_samples(num_samples)
    ids = [read(model, form, prompt) for prompt in prompts]
    per_prompt = 1 if sampling.num_beams > 1 else num_samples
    jobs = [(prompt, seed) for prompt in range(len(prompts)) for seed in range(per_prompt)]
    rows = max(1, batch_size // sampling.num_beams)
    for start in range(0, len(jobs), rows):
        batch = jobs[start : start + rows]
        texts = [Text(form, ids[prompt], sampling, sampling.seed + seed) for prompt, seed in batch]
        with evaluating(model):
            found: Sequence[Sequence[tuple[Text, float | None]]]
            if sampling.num_beams > 1:
                found = search_texts(model, texts, sampling)
            else:
                for _ in sample(model, texts, sampling):
                    pass
                found = [[(text, None)] for text in texts]
        for (prompt, _), results in zip(batch, found, strict=True):
            for text, score in results[:num_samples]:
                yield Completion(
                    prompt=prompts[prompt],
                    text=text.text,
                    tokens=text.tokens,
                    seed=text.seed if score is None else None,
                    finish_reason=str(text.finish_reason),
                    score=score,
                )


def read(model: LanguageModel, form: Form, prompt: str) -> list[int]:
    """Return the ids that the model reads of a prompt.

    Raises:
        DataError: the tokenizer cannot spell it, or it is longer than the model's window.
    """
    shown = repr(prompt if len(prompt) <= 40 else prompt[:40] + "...")
    try:
        ids = form.ids(prompt)
    except DataError as error:
        raise DataError(f"the prompt {shown}: {error}") from None
    require_room(model, ids, f"the prompt {shown}")
    return ids


def require_room(model: LanguageModel, ids: Sequence[int], what: str) -> None:
    """Raise unless the model can read so many tokens at once.

    Raises:
        DataError: it cannot.
    """
    if model.max_length is not None and len(ids) > model.max_length:
        raise DataError(f"{what} has {len(ids):,} tokens, and the model reads at most {model.max_length:,}: shorten it")


def rows_of(model: LanguageModel, texts: Sequence[Text], sampling: Sampling) -> Rows:
    """Return texts as rows of one state; where they have sources, an encoder-decoder reads these first."""
    prompts = [list(text.prompt) for text in texts]
    sources = [text.source for text in texts if text.source is not None]
    if not sources:
        return Rows(model, prompts, max_tokens=sampling.max_tokens)
    if model.first_target_id is not None:
        prompts = [[model.first_target_id, *prompt[1:]] for prompt in prompts]
    room = max(map(len, prompts)) + sampling.max_tokens
    room = room if model.max_length is None else min(room, model.max_length)
    return Rows(model, prompts, max_tokens=sampling.max_tokens, state=read_sources(model, sources, max_length=room))


def sample(model: LanguageModel, texts: Sequence[Text], sampling: Sampling) -> Iterator[None]:
    """Go on with texts until each has ended; yields after each token of all that have not."""
    rows = rows_of(model, texts, sampling)
    going = list(texts)
    for number in range(rows.max_tokens):
        scores_BV = rows.penalised(rows.scores(), sampling.repetition_penalty)
        tokens_B = choose(scores_BV, sampling, [text.draw() for text in going])
        for text, token in zip(going, tokens_B.tolist(), strict=True):
            text.add(token)
            if number + 1 == rows.max_tokens and text.finish_reason is None:
                text.finish("length")
        yield
        kept = [row for row, text in enumerate(going) if text.finish_reason is None]
        if not kept:
            return
        if len(kept) < len(going):
            going, tokens_B = [going[row] for row in kept], tokens_B[kept]
            rows.select(kept)
        rows.append(tokens_B)


def search_texts(model: LanguageModel, texts: Sequence[Text], sampling: Sampling) -> list[list[tuple[Text, float]]]:
    """Return the texts that beam search finds for each text, the best first, with their scores."""

    def grown(number: int, tokens: Sequence[int]) -> Text:
        text = Text(texts[number].form, texts[number].ids, sampling)
        text.add(*tokens)
        return text

    def ends(number: int, tokens: list[int]) -> str | None:
        if tokens[-1] in texts[number].form.ends:
            return "end"
        return grown(number, tokens).finish_reason if sampling.stop else None

    rows = rows_of(model, texts, sampling)
    found: list[list[tuple[Text, float]]] = []
    for number, results in enumerate(search(rows, sampling, ends)):
        found.append([])
        for result in results:
            text = grown(number, result.tokens)
            if text.finish_reason is None:
                text.finish(result.finish_reason)
            found[-1].append((text, result.score))
    return found
