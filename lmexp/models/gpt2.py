"""Decoder in the shape of GPT-2, as nanoGPT trains it.

Choices: learned positions, pre-norm with LayerNorm, GELU, tied embeddings, biases optional, output projections
initialised smaller by the square root of twice the depth. Source: Radford et al. 2019; karpathy/nanoGPT.
Shapes: B rows, T tokens, C hidden size, H heads, D head size.
"""

import math

from torch import Tensor, nn
from torch.nn import functional as F

from lmexp.config.model import GELU, GPT2Config
from lmexp.models.documents import Mask
from lmexp.models.heads import Head
from lmexp.models.layers import ResidualBlock, attend, drop, place, through
from lmexp.models.state import KeyValueCache, LanguageModel, Step, is_plain, matrix_flops, weights_of


class GPT2(LanguageModel):
    """Embeddings of tokens and positions, blocks, norm, head."""

    def __init__(self, config: GPT2Config, *, vocab_size: int, context_length: int) -> None:
        super().__init__()
        self.config = config
        self.max_length = config.max_positions or context_length
        self.embedding = nn.Embedding(vocab_size, config.hidden_size)
        self.position_embedding = nn.Embedding(self.max_length, config.hidden_size)
        self.blocks = nn.ModuleList(Block(config, layer) for layer in range(config.num_layers))
        self.norm = nn.LayerNorm(config.hidden_size, bias=config.bias)
        self.head = Head(config.hidden_size, vocab_size, loss=config.loss)
        if config.tie_embeddings:
            self.head.weight = self.embedding.weight
        self._initialise()

    def forward(
        self, tokens_BT: Tensor, state: KeyValueCache | None = None, segments_BT: Tensor | None = None
    ) -> tuple[Tensor, KeyValueCache | None]:
        positions, mask = place(tokens_BT, state, segments_BT)
        x_BTC = self.embedding(tokens_BT) + self.position_embedding(positions)
        x_BTC = drop(x_BTC, self.config.dropout, self.training)
        for block in self.blocks:
            x_BTC = through(block, x_BTC, state, mask)
        return self.norm(x_BTC), state

    def stepper(self) -> Step | None:
        if not is_plain(self, {GPT2, Block, Attention, MLP, Head}):
            return None
        blocks = [block for block in self.blocks if isinstance(block, Block)]
        layers = [
            weights_of(b.attention_norm, b.attention.qkv, b.attention.output, b.mlp_norm, b.mlp.up, b.mlp.down)
            for b in blocks
        ]
        (table, _), (position_table, _), last_norm = weights_of(self.embedding, self.position_embedding, self.norm)
        num_heads, head_size = self.config.num_heads, self.config.hidden_size // self.config.num_heads
        shape, epsilon, approximate = self.norm.normalized_shape, self.norm.eps, blocks[0].mlp.approximate

        def step(tokens_B1: Tensor, state: KeyValueCache) -> tuple[Tensor, KeyValueCache]:
            positions, mask = place(tokens_B1, state, None)
            x_B1C = F.embedding(tokens_B1, table) + F.embedding(positions, position_table)
            for layer, (norm, qkv, output, mlp_norm, up, down) in enumerate(layers):
                together = F.linear(F.layer_norm(x_B1C, shape, *norm, epsilon), *qkv)
                q, k, v = together.view(-1, 1, 3 * num_heads, head_size).transpose(1, 2).chunk(3, dim=1)
                x_B1C = x_B1C + F.linear(attend(q, k, v, cache=state, layer=layer, mask=mask), *output)
                inside = F.linear(F.layer_norm(x_B1C, shape, *mlp_norm, epsilon), *up)
                x_B1C = x_B1C + F.linear(F.gelu(inside, approximate=approximate), *down)
            return F.layer_norm(x_B1C, shape, *last_norm, epsilon), state

        return step

    def new_state(self, batch_size: int, max_length: int) -> KeyValueCache:
        return KeyValueCache.empty(
            self.embedding.weight,
            layers=len(self.blocks),
            rows=batch_size,
            heads=self.config.num_heads,
            length=max_length,
            size=self.config.hidden_size // self.config.num_heads,
        )

    def flops_per_token(self, context_length: int) -> float:
        return matrix_flops(self) + 12.0 * len(self.blocks) * self.config.hidden_size * context_length

    def _initialise(self) -> None:
        """Draw weights from N(0, 0.02^2), projections into the residual stream smaller; biases are 0."""
        residual_std = 0.02 / math.sqrt(2 * len(self.blocks))
        for name, weight in self.named_parameters():
            if weight.ndim == 2:
                is_residual = name.endswith(("attention.output.weight", "mlp.down.weight"))
                nn.init.normal_(weight, std=residual_std if is_residual else 0.02)
            elif name.endswith("bias"):
                nn.init.zeros_(weight)


class Block(ResidualBlock):
    """x + attention(norm(x)), then x + mlp(norm(x))."""

    def __init__(self, config: GPT2Config, layer: int) -> None:
        super().__init__()
        self.dropout = config.dropout
        self.attention_norm = nn.LayerNorm(config.hidden_size, bias=config.bias)
        self.attention = Attention(config, layer)
        self.mlp_norm = nn.LayerNorm(config.hidden_size, bias=config.bias)
        self.mlp = MLP(config)

    def forward(self, x_BTC: Tensor, state: KeyValueCache | None, mask: Mask | None) -> Tensor:
        attended = self.attention(self.attention_norm(x_BTC), state, mask)
        x_BTC = x_BTC + drop(attended, self.dropout, self.training)
        return x_BTC + drop(self.mlp(self.mlp_norm(x_BTC)), self.dropout, self.training)


class Attention(nn.Module):
    """Multi-head causal attention."""

    def __init__(self, config: GPT2Config, layer: int) -> None:
        super().__init__()
        self.layer, self.num_heads, self.dropout = layer, config.num_heads, config.dropout
        self.qkv = nn.Linear(config.hidden_size, 3 * config.hidden_size, bias=config.bias)
        self.output = nn.Linear(config.hidden_size, config.hidden_size, bias=config.bias)

    def forward(self, x_BTC: Tensor, state: KeyValueCache | None, mask: Mask | None) -> Tensor:
        qkv = self.qkv(x_BTC).unflatten(-1, (3 * self.num_heads, -1)).transpose(1, 2)
        q_BHTD, k_BHTD, v_BHTD = qkv.chunk(3, dim=1)
        dropout = self.dropout if self.training else 0.0
        return self.output(attend(q_BHTD, k_BHTD, v_BHTD, cache=state, layer=self.layer, mask=mask, dropout=dropout))


class MLP(nn.Module):
    """Two linear layers with a GELU between, four times as wide."""

    def __init__(self, config: GPT2Config) -> None:
        super().__init__()
        self.approximate = "tanh" if config.gelu is GELU.tanh else "none"
        self.up = nn.Linear(config.hidden_size, 4 * config.hidden_size, bias=config.bias)
        self.down = nn.Linear(4 * config.hidden_size, config.hidden_size, bias=config.bias)

    def forward(self, x_BTC: Tensor) -> Tensor:
        return self.down(F.gelu(self.up(x_BTC), approximate=self.approximate))
