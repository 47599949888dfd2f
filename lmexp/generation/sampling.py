"""Sample from a model, with random numbers from a generator of the sample's own: a text depends on its seed only.

Shapes: V vocabulary.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from lmexp.errors import DataError, NumericsError
from lmexp.models.state import LanguageModel
from lmexp.tokenization import Tokenizer

NOT_SHOWN = re.compile("[\0-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
"""Control characters but tab and newline, and those that turn the direction of writing."""


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """How the next token is chosen."""

    max_tokens: int = 200
    temperature: float = 0.8
    """0 takes the likeliest token."""
    top_k: int | None = None
    """Choose among the k likeliest only."""
    top_p: float | None = None
    """Choose among the likeliest that together have this probability."""
    seed: int = 0


def generate(model: LanguageModel, tokenizer: Tokenizer, prompt: str, sampling: Sampling) -> str:
    """Return the text that follows a prompt, up to the end of the document or max_tokens."""
    return "".join(_pieces(model, tokenizer, prompt, sampling))


def write(model: LanguageModel, tokenizer: Tokenizer, prompt: str, sampling: Sampling) -> Iterator[str]:
    """Yield the prompt and then the text as it grows, without control characters that a terminal would obey."""
    yield NOT_SHOWN.sub("\ufffd", prompt)
    for text in _pieces(model, tokenizer, prompt, sampling):
        yield NOT_SHOWN.sub("\ufffd", text)


def _pieces(model: LanguageModel, tokenizer: Tokenizer, prompt: str, sampling: Sampling) -> Iterator[str]:
    """Yield the text that follows a prompt as it grows, each character once all its bytes are there.

    Tokens are decoded after those before them, for a tokenizer of words puts spaces between.
    """
    before: Sequence[int] = tokenizer.encode(prompt).tolist()
    new: list[int] = []
    for token in stream(model, tokenizer, prompt, sampling):
        new.append(token)
        text = _decode_after(before, new, tokenizer)
        if not text.endswith("\ufffd"):
            yield text
            before, new = new, []
    if new:
        yield _decode_after(before, new, tokenizer)


def _decode_after(before: Sequence[int], new: Sequence[int], tokenizer: Tokenizer) -> str:
    return tokenizer.decode([*before, *new])[len(tokenizer.decode(before)) :]


@torch.no_grad()
def stream(model: LanguageModel, tokenizer: Tokenizer, prompt: str, sampling: Sampling) -> Iterator[int]:
    """Yield the ids that follow a prompt, one by one, without the one that ends the document.

    Raises:
        DataError: the prompt is empty and the tokenizer has no token to begin with.
    """
    ids = tokenizer.encode(prompt).tolist()
    if not ids:
        if tokenizer.end_of_document_id is None:
            raise DataError(
                "the prompt is empty, and this tokenizer has no token to begin a text with; write a character"
            )
        ids = [tokenizer.end_of_document_id]
    device = next(model.parameters()).device
    random = torch.Generator().manual_seed(sampling.seed)
    was_training = model.training
    model.eval()
    try:
        room = model.max_length or len(ids) + sampling.max_tokens
        state, unread = model.new_state(1, room), ids[-room:]
        for _ in range(sampling.max_tokens):
            if state.length + len(unread) > room:  # the model's window is full: go on from the last half of it
                state, unread = model.new_state(1, room), ids[-max(1, room // 2) :]
            hidden_BTC, state = model.forward(torch.tensor([unread], device=device), state)
            token = choose(model.head.logits(hidden_BTC[0, -1]).float().cpu(), sampling, random)
            if token == tokenizer.end_of_document_id:
                return
            yield token
            ids.append(token)
            unread = [token]
    finally:
        model.train(was_training)


def choose(logits_V: Tensor, sampling: Sampling, random: torch.Generator) -> int:
    """Return one token drawn from the scores.

    Raises:
        NumericsError: a score is not finite.
    """
    if not logits_V.isfinite().all():
        raise NumericsError(
            "the model's scores are not finite numbers: its training has diverged; take an earlier checkpoint"
        )
    if sampling.temperature == 0:
        return int(logits_V.argmax())
    scaled_V = (logits_V - logits_V.max()).double() / sampling.temperature
    if sampling.top_k is not None:
        likeliest = scaled_V.topk(min(sampling.top_k, len(scaled_V))).indices
        scaled_V = torch.full_like(scaled_V, -torch.inf).index_copy(0, likeliest, scaled_V[likeliest])
    probabilities_V = scaled_V.softmax(-1)
    if sampling.top_p is not None:
        ordered, order = probabilities_V.sort(descending=True)
        before = ordered.cumsum(-1)[:-1]
        probabilities_V = probabilities_V.index_fill(0, order[1:][before >= sampling.top_p], 0.0)
    return int(torch.multinomial(probabilities_V, 1, generator=random))
