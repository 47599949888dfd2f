"""Small models of every option, with weights large enough that a wrong token, mask or position shows."""

import dataclasses
from typing import Any

import torch
from torch import Tensor

from lmexp.config.model import GPT2Config, LSTMConfig, ModelConfig, TransformerConfig
from lmexp.config.schema import OPTIONS, build
from lmexp.models.state import LanguageModel

VOCAB_SIZE, CONTEXT_LENGTH = 29, 16
SMALL: dict[str, Any] = {"num_layers": 2, "hidden_size": 16}

OURS = {name: option for name, option in OPTIONS["model"].items() if option.__module__.startswith("lmexp.")}
CONFIGS: dict[str, Any] = {name: option(**SMALL) for name, option in OURS.items()} | {
    "lstm, one layer, nothing tied": LSTMConfig(
        num_layers=1, hidden_size=16, tie_embeddings=False, output_bias=False, embedding_size=10
    ),
    "lstm, projected": LSTMConfig(**SMALL, embedding_size=10),
    "transformer, grouped queries": TransformerConfig(**SMALL, num_key_value_heads=2, head_size=6, mlp_size=20),
    "transformer, untied, no QK-norm": TransformerConfig(**SMALL, qk_norm=False, tie_embeddings=False),
    "gpt2, biases": GPT2Config(**SMALL, bias=True),
    "gpt2, untied": GPT2Config(**SMALL, tie_embeddings=False),
}


def new_model(config: ModelConfig, seed: int = 0, **changes: Any) -> LanguageModel:
    """Return a model as training would start from it."""
    torch.manual_seed(seed)
    config = dataclasses.replace(config, **changes)
    return build(config, vocab_size=VOCAB_SIZE, context_length=CONTEXT_LENGTH)


def rough_model(config: ModelConfig, seed: int = 0, **changes: Any) -> LanguageModel:
    """Return a model in evaluation mode whose every weight, also norms and biases, was moved by N(0, 0.3^2)."""
    model = new_model(config, seed, **changes).eval()
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(torch.randn_like(weight), alpha=0.3)
    return model


def random_tokens(rows: int, length: int, seed: int = 1) -> Tensor:
    """Return tokens drawn evenly."""
    return torch.randint(VOCAB_SIZE, (rows, length), generator=torch.Generator().manual_seed(seed))


def read_in_chunks(model: LanguageModel, tokens: Tensor, size: int) -> Tensor:
    """Return the hidden states of tokens read so many at a time, with a state between."""
    with torch.no_grad():
        state, parts = model.new_state(len(tokens), tokens.shape[1]), []
        for chunk in tokens.split(size, dim=1):
            hidden, state = model(chunk, state)
            parts.append(hidden)
    return torch.cat(parts, dim=1)


def assert_close(actual: Tensor, expected: Tensor) -> None:
    """Raise unless two float32 tensors agree to 1e-5."""
    torch.testing.assert_close(actual, expected, rtol=1e-5, atol=1e-5)
