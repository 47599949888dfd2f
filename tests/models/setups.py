"""Small models of every option, with weights large enough that a wrong token, mask or position shows."""

import dataclasses
from typing import Any

import torch
from torch import Tensor

from lmexp.config.model import (
    MLP,
    Attention,
    EncoderDecoderConfig,
    GPT2Config,
    Kind,
    LSTMAttentionConfig,
    LSTMConfig,
    ModelConfig,
    OwnModelConfig,
    TransformerConfig,
    TransformerFastConfig,
)
from lmexp.config.schema import OPTIONS, build
from lmexp.models.state import LanguageModel

VOCAB_SIZE, CONTEXT_LENGTH = 29, 16
SMALL: dict[str, Any] = {"num_layers": 2, "hidden_size": 16}

OURS = {
    name: option
    for name, option in OPTIONS["model"].items()
    if issubclass(option, OwnModelConfig) and option.__module__.startswith("lmexp.")
}


def small(kind: Kind) -> dict[str, Any]:
    """Return a small config of each of our options of one kind."""
    return {name: option(**SMALL) for name, option in OURS.items() if option.kind is kind}


DECODERS: dict[str, Any] = small(Kind.decoder) | {
    "lstm, one layer, nothing tied": LSTMConfig(
        num_layers=1, hidden_size=16, tie_embeddings=False, output_bias=False, embedding_size=10
    ),
    "lstm, projected": LSTMConfig(**SMALL, embedding_size=10),
    "transformer, grouped queries": TransformerConfig(**SMALL, num_key_value_heads=2, head_size=6, mlp_size=20),
    "transformer, untied, no QK-norm": TransformerConfig(**SMALL, qk_norm=False, tie_embeddings=False),
    "transformer_fast, SwiGLU, one tap, nothing at zero": TransformerFastConfig(
        **SMALL, mlp=MLP.swiglu, shift_taps=1, zero_init=False
    ),
    "transformer_fast, tied, no shift, no QK-norm": TransformerFastConfig(
        **SMALL, tie_embeddings=True, shift_taps=0, qk_norm=False
    ),
    "gpt2, biases": GPT2Config(**SMALL, bias=True),
    "gpt2, untied": GPT2Config(**SMALL, tie_embeddings=False),
}
ENCODERS: dict[str, Any] = small(Kind.encoder)
ENCODER_DECODERS: dict[str, Any] = small(Kind.encoder_decoder) | {
    "encoder_decoder, biases, one encoder layer": EncoderDecoderConfig(**SMALL, bias=True, num_encoder_layers=1),
    "encoder_decoder, untied": EncoderDecoderConfig(**SMALL, tie_embeddings=False),
    "lstm_attention, bahdanau": LSTMAttentionConfig(**SMALL, attention=Attention.bahdanau),
    "lstm_attention, one layer, nothing tied": LSTMAttentionConfig(
        num_layers=1, hidden_size=16, tie_embeddings=False, embedding_size=10
    ),
    "lstm_attention, bahdanau, projected": LSTMAttentionConfig(
        **SMALL, attention=Attention.bahdanau, embedding_size=10
    ),
}
CONFIGS = DECODERS | ENCODERS | ENCODER_DECODERS


class Started(LanguageModel):
    """The decoder that an encoder-decoder becomes once it has read a source: the same one in every row."""

    def __init__(self, model: LanguageModel) -> None:
        super().__init__()
        self.model = model
        self.head, self.max_length = model.head, model.max_length

    def forward(self, tokens_BT: Tensor, state: Any = None, segments_BT: Tensor | None = None) -> Any:
        if state is None:
            state = self.new_state(len(tokens_BT), 0)
        return self.model(tokens_BT, state, segments_BT)

    def new_state(self, batch_size: int, max_length: int) -> Any:
        source_T = random_tokens(1, CONTEXT_LENGTH, seed=3)[0].to(self.head.weight.device)
        is_real_T = torch.arange(CONTEXT_LENGTH, device=source_T.device) > 1
        source_BT, is_real_BT = (x.expand(batch_size, -1) for x in (source_T, is_real_T))
        mask_BT = None if source_T.is_meta else is_real_BT
        return self.model.encode(source_BT, mask_BT, max_length=max_length)

    def flops_per_token(self, context_length: int) -> float:
        return self.model.flops_per_token(context_length)


def new_model(config: ModelConfig, seed: int = 0, **changes: Any) -> Any:
    """Return a model as training would start from it."""
    torch.manual_seed(seed)
    config = dataclasses.replace(config, **changes)
    model = build(config, vocab_size=VOCAB_SIZE, context_length=CONTEXT_LENGTH)
    return Started(model) if config.kind is Kind.encoder_decoder else model


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
