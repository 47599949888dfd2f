"""Decoder in the shape of Qwen3 (and, without QK-norm, of Llama).

Choices: pre-norm with RMSNorm, rotary positions, a norm on queries and keys of each head, grouped-query attention,
SwiGLU, no biases, output projections initialised smaller by the square root of twice the depth.
Shapes: B rows, T tokens, C hidden size, H query heads, G key-value heads, D head size.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lmexp.config.model import Kind, TransformerConfig
from lmexp.models.documents import Mask
from lmexp.models.heads import Head
from lmexp.models.layers import ResidualBlock, Rotary, SwiGLU, attend, drop, place, rotate, through
from lmexp.models.state import KeyValueCache, LanguageModel, Step, is_plain, matrix_flops, weights_of


class Transformer(LanguageModel):
    """Embedding, blocks, norm, head."""

    def __init__(self, config: TransformerConfig, *, vocab_size: int, context_length: int) -> None:
        super().__init__()
        self.config = config
        self.max_length = config.max_positions or context_length
        self.head_size = config.head_size or config.hidden_size // config.num_heads
        self.num_key_value_heads = config.num_key_value_heads or config.num_heads
        self.embedding = nn.Embedding(vocab_size, config.hidden_size)
        self.rotary = Rotary(self.head_size, config.rope_theta)
        self.blocks = nn.ModuleList(
            Block(config, self.head_size, self.num_key_value_heads, layer) for layer in range(config.num_layers)
        )
        self.norm = nn.RMSNorm(config.hidden_size, eps=config.norm_epsilon)
        self.head = Head(config.hidden_size, vocab_size, loss=config.loss)
        if config.tie_embeddings:
            self.head.weight = self.embedding.weight
        self._initialise()

    def forward(
        self, tokens_BT: Tensor, state: KeyValueCache | None = None, segments_BT: Tensor | None = None
    ) -> tuple[Tensor, KeyValueCache | None]:
        start = state.length if state is not None else 0
        _, mask = place(tokens_BT, state, segments_BT)  # rotary positions say how far apart two tokens are, so any do
        cos, sin = (table[start:] for table in self.rotary.tables(start + tokens_BT.shape[1], self.embedding.weight))
        x_BTC = drop(self.embedding(tokens_BT), self.config.dropout, self.training)
        for block in self.blocks:
            x_BTC = through(block, x_BTC, cos, sin, state, mask)
        return self.norm(x_BTC), state

    def stepper(self) -> Step | None:
        if not is_plain(self, {Transformer, Block, Attention, SwiGLU, Rotary, Head}):
            return None
        layers = [block.weights() for block in self.blocks if isinstance(block, Block)]
        (table, _), (last_norm, _) = weights_of(self.embedding, self.norm)
        heads = (self.config.num_heads, self.num_key_value_heads)
        shape, head_shape, epsilon = self.norm.normalized_shape, (self.head_size,), self.norm.eps

        def step(tokens_B1: Tensor, state: KeyValueCache) -> tuple[Tensor, KeyValueCache]:
            _, mask = place(tokens_B1, state, None)
            cos, sin = (rows[state.length :] for rows in self.rotary.tables(state.length + 1, self.embedding.weight))
            x_B1C = F.embedding(tokens_B1, table)
            for layer, (qk_norm, weights) in enumerate(layers):
                norm, query, key, value, output, mlp_norm, gate, up, down = weights
                x = F.rms_norm(x_B1C, shape, norm, epsilon)
                qk = torch.cat((F.linear(x, query), F.linear(x, key)), dim=-1).unflatten(-1, (-1, self.head_size))
                if qk_norm is not None:
                    qk = F.rms_norm(qk, head_shape, eps=epsilon) * qk_norm
                q, k = rotate(qk, cos, sin).transpose(1, 2).split(heads, dim=1)
                v = F.linear(x, value).unflatten(-1, (-1, self.head_size)).transpose(1, 2)
                x_B1C = x_B1C + F.linear(attend(q, k, v, cache=state, layer=layer, mask=mask), output)
                x = F.rms_norm(x_B1C, shape, mlp_norm, epsilon)
                x_B1C = x_B1C + F.linear(F.silu(F.linear(x, gate)) * F.linear(x, up), down)
            return F.rms_norm(x_B1C, shape, last_norm, epsilon), state

        return step

    def new_state(self, batch_size: int, max_length: int) -> KeyValueCache:
        return KeyValueCache.empty(
            self.embedding.weight,
            layers=len(self.blocks),
            rows=batch_size,
            heads=self.num_key_value_heads,
            length=max_length,
            size=self.head_size,
        )

    def flops_per_token(self, context_length: int) -> float:
        width = self.config.num_heads * self.head_size
        return matrix_flops(self) + 12.0 * len(self.blocks) * width * context_length

    def _initialise(self) -> None:
        """Draw weights from N(0, 0.02^2); projections into the residual stream smaller, as GPT-2 has them."""
        residual_std = 0.02 / math.sqrt(2 * len(self.blocks))
        for name, weight in self.named_parameters():
            if weight.ndim == 2:
                is_residual = name.endswith(("attention.output.weight", "mlp.down.weight"))
                nn.init.normal_(weight, std=residual_std if is_residual else 0.02)


class Block(ResidualBlock):
    """x + attention(norm(x)), then x + mlp(norm(x))."""

    def __init__(self, config: TransformerConfig, head_size: int, num_key_value_heads: int, layer: int) -> None:
        super().__init__()
        self.dropout = config.dropout
        self.attention_norm = nn.RMSNorm(config.hidden_size, eps=config.norm_epsilon)
        self.attention = Attention(config, head_size, num_key_value_heads, layer)
        self.mlp_norm = nn.RMSNorm(config.hidden_size, eps=config.norm_epsilon)
        self.mlp = SwiGLU(config.hidden_size, config.mlp_width)

    def forward(
        self, x_BTC: Tensor, cos: Tensor, sin: Tensor, state: KeyValueCache | None, mask: Mask | None
    ) -> Tensor:
        attended = self.attention(self.attention_norm(x_BTC), cos, sin, state, mask)
        x_BTC = x_BTC + drop(attended, self.dropout, self.training)
        return x_BTC + drop(self.mlp(self.mlp_norm(x_BTC)), self.dropout, self.training)

    def weights(self) -> tuple[Tensor | None, list[Tensor]]:
        """Return the norms of queries and keys as one, head by head, and the other weights as they are used.

        Shape: (H + G, D) for the norms.
        """
        attention, mlp = self.attention, self.mlp
        qk_norm = None
        if isinstance(attention.query_norm, nn.RMSNorm) and isinstance(attention.key_norm, nn.RMSNorm):
            norms = (attention.query_norm.weight, attention.key_norm.weight)
            sizes = (layer.out_features // attention.head_size for layer in (attention.query, attention.key))
            qk_norm = torch.cat([norm.expand(heads, -1) for norm, heads in zip(norms, sizes, strict=True)])
        projections = (attention.query, attention.key, attention.value, attention.output)
        modules = (self.attention_norm, *projections, self.mlp_norm, mlp.gate, mlp.up, mlp.down)
        return qk_norm, [weight for weight, _ in weights_of(*modules)]


class Attention(nn.Module):
    """Grouped-query attention with rotary positions and normalised queries and keys."""

    def __init__(self, config: TransformerConfig, head_size: int, num_key_value_heads: int, layer: int) -> None:
        super().__init__()
        self.layer, self.head_size, self.dropout = layer, head_size, config.dropout
        self.causal = config.kind is Kind.decoder
        self.query = nn.Linear(config.hidden_size, config.num_heads * head_size, bias=False)
        self.key = nn.Linear(config.hidden_size, num_key_value_heads * head_size, bias=False)
        self.value = nn.Linear(config.hidden_size, num_key_value_heads * head_size, bias=False)
        self.output = nn.Linear(config.num_heads * head_size, config.hidden_size, bias=False)
        self.query_norm = nn.RMSNorm(head_size, eps=config.norm_epsilon) if config.qk_norm else nn.Identity()
        self.key_norm = nn.RMSNorm(head_size, eps=config.norm_epsilon) if config.qk_norm else nn.Identity()

    def forward(
        self, x_BTC: Tensor, cos: Tensor, sin: Tensor, state: KeyValueCache | None, mask: Mask | None
    ) -> Tensor:
        q, k, v = (
            projection(x_BTC).unflatten(-1, (-1, self.head_size)) for projection in (self.query, self.key, self.value)
        )
        # Under autocast the projections are bfloat16, and the norms and angles are better in the type of x.
        q_BHTD = rotate(self.query_norm(q.type_as(x_BTC)).transpose(1, 2), cos, sin)
        k_BGTD = rotate(self.key_norm(k.type_as(x_BTC)).transpose(1, 2), cos, sin)
        dropout = self.dropout if self.training else 0.0
        attended_BTC = attend(
            q_BHTD,
            k_BGTD,
            v.transpose(1, 2),
            cache=state,
            layer=self.layer,
            mask=mask,
            causal=self.causal,
            dropout=dropout,
        )
        return self.output(attended_BTC)
