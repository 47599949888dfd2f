"""Encoder-decoder Transformer of GPT-2's layers.

Choices: one vocabulary and one embedding for source and target unless each has its own, learned positions of each,
pre-norm with LayerNorm, GELU, tied embeddings, biases optional; the source's keys and values are computed once for each
source.
Source: Vaswani et al. 2017, section 3, with the norms where GPT-2 has them.
Shapes: B rows, S source tokens, T target tokens, C hidden size, H heads, D head size, L layers.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lmexp.config.model import EncoderDecoderConfig
from lmexp.models.documents import Mask
from lmexp.models.gpt2 import Block
from lmexp.models.heads import Head
from lmexp.models.layers import attend, place, real_tokens_first, through
from lmexp.models.state import NEEDS_SOURCE, KeyValueCache, SourceModel, matrix_flops


class EncoderDecoderState:
    """Keys and values of the source, which of its tokens are real, and the cache of the target (None in training).

    Shape: (L, B, H, S, D) for the source, (B, S) for its mask.
    """

    def __init__(
        self, source: KeyValueCache, mask_BS: Tensor, target: KeyValueCache | None = None, length: int = 0
    ) -> None:
        self.source = source
        self.mask_BS = mask_BS
        self.target = target
        self.length = length

    def select(self, rows: Tensor) -> "EncoderDecoderState":
        target = None if self.target is None else self.target.select(rows)
        return EncoderDecoderState(self.source.select(rows), self.mask_BS[rows], target, self.length)

    def detach(self) -> "EncoderDecoderState":
        target = None if self.target is None else self.target.detach()
        return EncoderDecoderState(self.source.detach(), self.mask_BS, target, self.length)


class EncoderDecoder(SourceModel):
    """An encoder for the source; for the target embeddings, blocks that look at the source, norm, head."""

    def __init__(
        self,
        config: EncoderDecoderConfig,
        *,
        vocab_size: int,
        context_length: int,
        source_vocab_size: int | None = None,
    ) -> None:
        super().__init__()
        self.config = config
        self.max_length = config.max_positions or context_length
        self.embedding = nn.Embedding(vocab_size, config.hidden_size)
        self.source_embedding = (
            None if source_vocab_size is None else nn.Embedding(source_vocab_size, config.hidden_size)
        )
        self.encoder = Encoder(config, self.max_length)
        self.keys_values = nn.ModuleList(
            nn.Linear(config.hidden_size, 2 * config.hidden_size, bias=config.bias) for _ in range(config.num_layers)
        )
        self.position_embedding = nn.Embedding(self.max_length, config.hidden_size)
        self.blocks = nn.ModuleList(DecoderBlock(config, layer) for layer in range(config.num_layers))
        self.norm = nn.LayerNorm(config.hidden_size, bias=config.bias)
        self.head = Head(config.hidden_size, vocab_size, loss=config.loss)
        if config.tie_embeddings:
            self.head.weight = self.embedding.weight
        self._initialise()

    def encode(self, source_BS: Tensor, mask_BS: Tensor | None = None, *, max_length: int = 0) -> EncoderDecoderState:
        source_BS, mask_BS = real_tokens_first(source_BS, mask_BS)
        x_BSC = self.encoder((self.source_embedding or self.embedding)(source_BS), mask_BS)
        pairs = [split_heads(layer(x_BSC), 2 * self.config.num_heads).chunk(2, dim=1) for layer in self.keys_values]
        keys, values = zip(*pairs, strict=True)
        source = KeyValueCache(torch.stack(keys), torch.stack(values), source_BS.shape[1])
        return EncoderDecoderState(source, mask_BS, self._cache(len(source_BS), max_length) if max_length else None)

    def forward(
        self, tokens_BT: Tensor, state: EncoderDecoderState | None = None, segments_BT: Tensor | None = None
    ) -> tuple[Tensor, EncoderDecoderState]:
        if state is None:
            raise ValueError(NEEDS_SOURCE)
        if state.length and state.target is None:
            raise ValueError("this state keeps no target tokens: give encode() a max_length to read them in parts")
        positions, mask = place(tokens_BT, state.target, segments_BT)
        x_BTC = self.embedding(tokens_BT) + self.position_embedding(positions)
        x_BTC = F.dropout(x_BTC, self.config.dropout, self.training)
        for block in self.blocks:
            x_BTC = through(block, x_BTC, state, mask)
        length = state.length + tokens_BT.shape[1]
        return self.norm(x_BTC), EncoderDecoderState(state.source, state.mask_BS, state.target, length)

    def flops_per_token(self, context_length: int) -> float:
        """Return the operations for each token of the target, with a source of as many tokens.

        So each weight counts once, those of the encoder for the source token that goes with the target token.
        """
        looks = len(self.encoder.blocks) + 2 * len(self.blocks)  # the decoder looks at the target and at the source
        return matrix_flops(self) + 12.0 * looks * self.config.hidden_size * context_length

    def _cache(self, rows: int, max_length: int) -> KeyValueCache:
        heads, size = self.config.num_heads, self.config.hidden_size // self.config.num_heads
        weight, layers = self.embedding.weight, len(self.blocks)
        return KeyValueCache.empty(weight, layers=layers, rows=rows, heads=heads, length=max_length, size=size)

    def _initialise(self) -> None:
        """Draw weights from N(0, 0.02^2), smaller by the root of the number of parts that add up; biases are 0."""
        for name, weight in self.named_parameters():
            if weight.ndim == 2:
                parts = 2 * len(self.encoder.blocks) if name.startswith("encoder.") else 3 * len(self.blocks)
                is_residual = name.endswith(("attention.output.weight", "mlp.down.weight"))
                nn.init.normal_(weight, std=0.02 / math.sqrt(parts) if is_residual else 0.02)
            elif name.endswith("bias"):
                nn.init.zeros_(weight)


class Encoder(nn.Module):
    """Positions, blocks that read both ways, norm."""

    def __init__(self, config: EncoderDecoderConfig, max_length: int) -> None:
        super().__init__()
        self.dropout = config.dropout
        self.position_embedding = nn.Embedding(max_length, config.hidden_size)
        num_layers = config.num_encoder_layers or config.num_layers
        self.blocks = nn.ModuleList(Block(config, layer) for layer in range(num_layers))
        self.norm = nn.LayerNorm(config.hidden_size, bias=config.bias)

    def forward(self, x_BSC: Tensor, mask_BS: Tensor) -> Tensor:
        length, room = x_BSC.shape[1], self.position_embedding.num_embeddings
        if length > room:
            raise ValueError(f"a source of {length} tokens is longer than the {room} positions of the model")
        x_BSC = x_BSC + self.position_embedding.weight[:length]
        x_BSC = F.dropout(x_BSC, self.dropout, self.training)
        for block in self.blocks:
            x_BSC = through(block, x_BSC, None, mask_BS[:, None, None])
        return self.norm(x_BSC)


class DecoderBlock(Block):
    """x + attention(norm(x)), then the same with attention to the source, then with the MLP."""

    def __init__(self, config: EncoderDecoderConfig, layer: int) -> None:
        super().__init__(config, layer)
        self.cross_attention_norm = nn.LayerNorm(config.hidden_size, bias=config.bias)
        self.cross_attention = CrossAttention(config, layer)

    def forward(self, x_BTC: Tensor, state: EncoderDecoderState, mask: Mask | None) -> Tensor:  # type: ignore[override]
        attended = self.attention(self.attention_norm(x_BTC), state.target, mask)
        x_BTC = x_BTC + F.dropout(attended, self.dropout, self.training)
        attended = self.cross_attention(self.cross_attention_norm(x_BTC), state)
        x_BTC = x_BTC + F.dropout(attended, self.dropout, self.training)
        return x_BTC + F.dropout(self.mlp(self.mlp_norm(x_BTC)), self.dropout, self.training)


class CrossAttention(nn.Module):
    """Multi-head attention to the source, whose keys and values are in the state."""

    def __init__(self, config: EncoderDecoderConfig, layer: int) -> None:
        super().__init__()
        self.layer, self.num_heads, self.dropout = layer, config.num_heads, config.dropout
        self.query = nn.Linear(config.hidden_size, config.hidden_size, bias=config.bias)
        self.output = nn.Linear(config.hidden_size, config.hidden_size, bias=config.bias)

    def forward(self, x_BTC: Tensor, state: EncoderDecoderState) -> Tensor:
        q_BHTD = split_heads(self.query(x_BTC), self.num_heads)
        keys_BHSD, values_BHSD = state.source.keys[self.layer], state.source.values[self.layer]
        dropout, mask = self.dropout if self.training else 0.0, state.mask_BS[:, None, None]
        return self.output(attend(q_BHTD, keys_BHSD, values_BHSD, mask=mask, dropout=dropout))


def split_heads(x_BTC: Tensor, number: int) -> Tensor:
    """Return the parts of a vector as so many heads.

    Shape: (B, T, H * D) -> (B, H, T, D).
    """
    return x_BTC.unflatten(-1, (number, -1)).transpose(1, 2)
