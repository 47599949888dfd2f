"""Decoder that learns most from the fewest tokens, and has no counterpart in transformers.

Choices, each with its worth in docs/recipe.md: what attention and feed-forward part read is mixed with the tokens
before, norms have no parameters, queries and keys are normalised, squared ReLU, what writes to the residual stream and
the untied head begin at zero. Made for Muon. Shapes: B rows, T tokens, C hidden size, H heads, D head size, K taps of
a shift, N shifts.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lmexp.config.model import MLP, TransformerFastConfig
from lmexp.models.documents import Mask
from lmexp.models.heads import Head
from lmexp.models.layers import (
    ReLU2,
    ResidualBlock,
    Rotary,
    StackedLinear,
    SwiGLU,
    attend,
    drop,
    place,
    rotate,
    through,
)
from lmexp.models.state import KeyValueCache, LanguageModel, matrix_flops


class TransformerFast(LanguageModel):
    """Embedding, blocks, norm, head."""

    def __init__(self, config: TransformerFastConfig, *, vocab_size: int, context_length: int) -> None:
        super().__init__()
        self.config = config
        self.max_length = config.max_positions or context_length
        self.head_size = config.hidden_size // config.num_heads
        self.embedding = nn.Embedding(vocab_size, config.hidden_size)
        self.shift = TokenShift(config, number=0)
        self.rotary = Rotary(self.head_size, config.rope_theta)
        self.blocks = nn.ModuleList(Block(config, layer) for layer in range(config.num_layers))
        self.head = Head(config.hidden_size, vocab_size, loss=config.loss)
        if config.tie_embeddings:
            self.head.weight = self.embedding.weight
        self._initialise()

    def forward(
        self, tokens_BT: Tensor, state: "ShiftedCache | None" = None, segments_BT: Tensor | None = None
    ) -> tuple[Tensor, "ShiftedCache | None"]:
        start = state.length if state is not None else 0
        positions, mask = place(tokens_BT, state, segments_BT)
        context = Context(
            state,
            mask,
            None if mask is None else positions,
            *(table[start:] for table in self.rotary.tables(start + tokens_BT.shape[1], self.embedding.weight)),
        )
        x_BTC = norm(self.shift(self.embedding(tokens_BT), context))
        x_BTC = drop(x_BTC, self.config.dropout, self.training)
        for block in self.blocks:
            x_BTC = through(block, x_BTC, context)
        return norm(x_BTC), state

    def new_state(self, batch_size: int, max_length: int) -> "ShiftedCache":
        cache = KeyValueCache.empty(
            self.embedding.weight,
            layers=len(self.blocks),
            rows=batch_size,
            heads=self.config.num_heads,
            length=max_length,
            size=self.head_size,
        )
        shape = (1 + 2 * len(self.blocks), batch_size, self.config.shift_taps, self.config.hidden_size)
        return ShiftedCache(cache, self.embedding.weight.new_zeros(shape))

    def flops_per_token(self, context_length: int) -> float:
        return matrix_flops(self) + 12.0 * len(self.blocks) * self.config.hidden_size * context_length

    def _initialise(self) -> None:
        """Draw matrices from U(-a, a) with a standard deviation of 0.5 / sqrt(inputs); begin with zeros what writes."""
        for module in self.modules():
            if isinstance(module, nn.Linear):
                limit = 0.5 * (3 / module.in_features) ** 0.5
                nn.init.uniform_(module.weight, -limit, limit)
        nn.init.normal_(self.head.weight, std=0.02)
        if self.config.zero_init:
            for name, weight in self.named_parameters():
                if name.endswith(("attention.output.weight", "mlp.down.weight", "head.weight")):
                    nn.init.zeros_(weight)
        if not self.config.tie_embeddings:
            nn.init.normal_(self.embedding.weight)


class Context:
    """What all blocks share in one pass: the state, what may be attended to, positions, angles."""

    def __init__(
        self,
        state: "ShiftedCache | None",
        mask: Mask | None,
        positions_BT: Tensor | None,
        cos_TD: Tensor,
        sin_TD: Tensor,
    ) -> None:
        self.state, self.mask, self.positions_BT, self.cos_TD, self.sin_TD = state, mask, positions_BT, cos_TD, sin_TD


class ShiftedCache(KeyValueCache):
    """Keys and values, and the last tokens that each shift has read.

    Shape: (N, B, K, C) for these.
    """

    def __init__(self, cache: KeyValueCache, recent_NBKC: Tensor) -> None:
        super().__init__(cache.keys, cache.values, cache.length, cache.starts_B)
        self.recent_NBKC = recent_NBKC

    def select(self, rows: Tensor) -> "ShiftedCache":
        return ShiftedCache(super().select(rows), self.recent_NBKC[:, rows])

    def detach(self) -> "ShiftedCache":
        return ShiftedCache(super().detach(), self.recent_NBKC.detach())


class TokenShift(nn.Module):
    """x_t, and x of the tokens before it in its document, each times a weight for every channel that begins at zero.

    Source: the token shift of Peng et al. 2023 (RWKV), section 3.1.1; the causal convolutions of So et al. 2021.
    """

    def __init__(self, config: TransformerFastConfig, number: int) -> None:
        super().__init__()
        self.number = number
        self.taps = nn.ParameterList(torch.zeros(config.hidden_size) for _ in range(config.shift_taps))

    def forward(self, x_BTC: Tensor, context: Context) -> Tensor:
        taps, length = len(self.taps), x_BTC.shape[1]
        if context.state is None:
            extended = F.pad(x_BTC, (0, 0, taps, 0))
        else:
            recent_BKC = context.state.recent_NBKC[self.number]
            extended = torch.cat((recent_BKC, x_BTC), dim=1)
            recent_BKC.copy_(extended[:, length:])
        shifted_BTC = x_BTC
        for back, weight_C in enumerate(self.taps, start=1):
            earlier_BTC = extended[:, taps - back : taps - back + length]
            if context.positions_BT is not None:
                earlier_BTC = earlier_BTC * (context.positions_BT >= back).unsqueeze(-1)
            shifted_BTC = shifted_BTC + earlier_BTC * weight_C
        return shifted_BTC


class Block(ResidualBlock):
    """x + attention(shift(norm(x))), then x + mlp(shift(norm(x)))."""

    def __init__(self, config: TransformerFastConfig, layer: int) -> None:
        super().__init__()
        self.dropout = config.dropout
        self.attention_shift = TokenShift(config, number=1 + 2 * layer)
        self.attention = Attention(config, layer)
        self.mlp_shift = TokenShift(config, number=2 + 2 * layer)
        kind = ReLU2 if config.mlp is MLP.relu2 else SwiGLU
        self.mlp = kind(config.hidden_size, config.mlp_width)

    def forward(self, x_BTC: Tensor, context: Context) -> Tensor:
        attended_BTC = self.attention(self.attention_shift(norm(x_BTC), context), context)
        x_BTC = x_BTC + drop(attended_BTC, self.dropout, self.training)
        return x_BTC + drop(self.mlp(self.mlp_shift(norm(x_BTC), context)), self.dropout, self.training)


class Attention(nn.Module):
    """Causal attention with rotary positions; normalised queries have a gain for each head."""

    def __init__(self, config: TransformerFastConfig, layer: int) -> None:
        super().__init__()
        self.layer, self.num_heads, self.dropout = layer, config.num_heads, config.dropout
        self.qkv = StackedLinear(config.hidden_size, config.hidden_size, parts=3)
        self.output = nn.Linear(config.hidden_size, config.hidden_size, bias=False)
        self.gain = nn.Parameter(torch.full((config.num_heads,), 2.0)) if config.qk_norm else None

    def forward(self, x_BTC: Tensor, context: Context) -> Tensor:
        heads = self.qkv(x_BTC).unflatten(-1, (3 * self.num_heads, -1)).transpose(1, 2)
        qk_BHTD, v_BHTD = heads.split((2 * self.num_heads, self.num_heads), dim=1)
        if self.gain is not None:
            qk_BHTD = norm(qk_BHTD.type_as(x_BTC))  # bfloat16 under autocast, and better normalised in the type of x
        q_BHTD, k_BHTD = rotate(qk_BHTD, context.cos_TD, context.sin_TD).chunk(2, dim=1)
        if self.gain is not None:
            q_BHTD = q_BHTD * self.gain[:, None, None]
        attended_BTC = attend(
            q_BHTD,
            k_BHTD,
            v_BHTD,
            cache=context.state,
            layer=self.layer,
            mask=context.mask,
            dropout=self.dropout if self.training else 0.0,
        )
        return self.output(attended_BTC)


def norm(x: Tensor) -> Tensor:
    """Return the vectors with mean 0 and variance 1; LayerNorm is one kernel on a CPU, where RMSNorm is several."""
    return F.layer_norm(x, x.shape[-1:])
