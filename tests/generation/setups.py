"""A model that says what it is told, and small ones that prefer some tokens clearly."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from lmexp.config.model import ModelConfig
from lmexp.config.schema import build
from lmexp.config.tokenizer import CharactersConfig
from lmexp.generation.forms import Continuation
from lmexp.models.heads import Head
from lmexp.models.state import LanguageModel
from lmexp.tokenization import Tokenizer, learn

LETTERS = "abcdefghijklmnopqrstuvwxyz ."


def letters() -> Tokenizer:
    """Return a tokenizer of 28 characters and nothing else: no token ends a document."""
    return learn(CharactersConfig(byte_fallback=False, end_of_document=False), [LETTERS])


def letters_and_end() -> Tokenizer:
    """Return a tokenizer of 28 characters and the end of a document."""
    return learn(CharactersConfig(byte_fallback=False, end_of_document=True), [LETTERS])


def new_model(config: ModelConfig, tokenizer: Tokenizer, context_length: int = 64, **changes: Any) -> LanguageModel:
    """Return a model in evaluation mode that prefers some tokens clearly."""
    torch.manual_seed(0)
    config = dataclasses.replace(config, **changes)
    model = build(config, vocab_size=tokenizer.vocab_size, context_length=context_length).eval()
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(torch.randn_like(weight), alpha=0.3)
    return model


class Calls:
    """The state of a Fixed model: how often it was called."""

    number = length = 0

    def select(self, rows: Tensor) -> "Calls":
        return self


class Fixed(LanguageModel):
    """Says the tokens it is given, one after the other, whatever it reads."""

    def __init__(self, says: Sequence[int], vocab_size: int) -> None:
        super().__init__()
        self.says = says
        self.head = Head(vocab_size, vocab_size)
        self.head.weight = torch.nn.Parameter(100 * torch.eye(vocab_size))

    def forward(self, tokens_BT: Tensor, state: Calls, segments_BT: Tensor | None = None) -> tuple[Tensor, Calls]:
        hidden_V = torch.nn.functional.one_hot(torch.tensor(self.says[state.number]), len(self.head.weight)).float()
        state.number += 1
        state.length += tokens_BT.shape[1]
        return hidden_V.expand(*tokens_BT.shape, -1), state

    def new_state(self, batch_size: int, max_length: int) -> Calls:
        return Calls()


@dataclasses.dataclass(frozen=True)
class AfterSource(Continuation):
    """The ids are a source, and the text goes on from a start of its own."""

    start: Sequence[int]

    def begin(self, ids: Sequence[int]) -> tuple[Sequence[int] | None, Sequence[int]]:
        return ids, self.start
