"""Encoder in the shape of BERT, with its masked-language-model head.

Choices: learned positions, counted in each document, the first token type everywhere, LayerNorm after each part,
biases, GELU; the head has a layer of its own before the output matrix. No pooler and no next-sentence prediction.
Source: Devlin et al. 2019. Shapes: B rows, T tokens, C hidden size, H heads, D head size.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lmexp.config.model import GELU, BERTConfig, Loss
from lmexp.models.documents import Mask, both_ways, positions_in_segments
from lmexp.models.heads import Head
from lmexp.models.layers import ResidualBlock, attend, through
from lmexp.models.state import LanguageModel, matrix_flops


class BERT(LanguageModel):
    """Embeddings of tokens, positions and token types, norm, blocks, head."""

    reads_both_ways = True

    def __init__(self, config: BERTConfig, *, vocab_size: int, context_length: int) -> None:
        super().__init__()
        self.config = config
        self.max_length = config.max_positions or context_length
        self.embedding = nn.Embedding(vocab_size, config.hidden_size)
        self.position_embedding = nn.Embedding(self.max_length, config.hidden_size)
        self.type_embedding = nn.Embedding(config.num_token_types, config.hidden_size)
        self.embedding_norm = nn.LayerNorm(config.hidden_size, eps=config.norm_epsilon)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.num_layers))
        self.head = BERTHead(config, vocab_size, loss=config.loss)
        if config.tie_embeddings:
            self.head.weight = self.embedding.weight
        self._initialise()

    def forward(self, tokens_BT: Tensor, state: None = None, segments_BT: Tensor | None = None) -> tuple[Tensor, None]:
        if segments_BT is None:
            positions = torch.arange(tokens_BT.shape[1], device=tokens_BT.device)
        else:
            positions = positions_in_segments(segments_BT)
        mask = both_ways(segments_BT)
        x_BTC = self.embedding(tokens_BT) + self.position_embedding(positions) + self.type_embedding.weight[0]
        x_BTC = F.dropout(self.embedding_norm(x_BTC), self.config.dropout, self.training)
        for block in self.blocks:
            x_BTC = through(block, x_BTC, mask)
        return x_BTC, None

    def flops_per_token(self, context_length: int) -> float:
        return matrix_flops(self) + 12.0 * len(self.blocks) * self.config.hidden_size * context_length

    def _initialise(self) -> None:
        """Draw weights from N(0, 0.02^2); biases are 0."""
        for name, weight in self.named_parameters():
            if weight.ndim == 2:
                nn.init.normal_(weight, std=0.02)
            elif name.endswith("bias"):
                nn.init.zeros_(weight)


class Block(ResidualBlock):
    """norm(x + attention(x)), then norm(x + mlp(x))."""

    def __init__(self, config: BERTConfig) -> None:
        super().__init__()
        self.dropout = config.dropout
        self.attention = Attention(config)
        self.attention_norm = nn.LayerNorm(config.hidden_size, eps=config.norm_epsilon)
        self.mlp = MLP(config)
        self.mlp_norm = nn.LayerNorm(config.hidden_size, eps=config.norm_epsilon)

    def forward(self, x_BTC: Tensor, mask: Mask | None) -> Tensor:
        attended = F.dropout(self.attention(x_BTC, mask), self.dropout, self.training)
        x_BTC = self.attention_norm(x_BTC + attended)
        return self.mlp_norm(x_BTC + F.dropout(self.mlp(x_BTC), self.dropout, self.training))


class Attention(nn.Module):
    """Multi-head attention that sees both sides."""

    def __init__(self, config: BERTConfig) -> None:
        super().__init__()
        self.num_heads, self.dropout = config.num_heads, config.dropout
        self.query = nn.Linear(config.hidden_size, config.hidden_size)
        self.key = nn.Linear(config.hidden_size, config.hidden_size)
        self.value = nn.Linear(config.hidden_size, config.hidden_size)
        self.output = nn.Linear(config.hidden_size, config.hidden_size)

    def forward(self, x_BTC: Tensor, mask: Mask | None) -> Tensor:
        q_BHTD, k_BHTD, v_BHTD = (
            projection(x_BTC).unflatten(-1, (self.num_heads, -1)).transpose(1, 2)
            for projection in (self.query, self.key, self.value)
        )
        dropout = self.dropout if self.training else 0.0
        return self.output(attend(q_BHTD, k_BHTD, v_BHTD, mask=mask, causal=False, dropout=dropout))


class MLP(nn.Module):
    """Two linear layers with a GELU between."""

    def __init__(self, config: BERTConfig) -> None:
        super().__init__()
        mlp_size = config.mlp_size or 4 * config.hidden_size
        self.approximate = "tanh" if config.gelu is GELU.tanh else "none"
        self.up = nn.Linear(config.hidden_size, mlp_size)
        self.down = nn.Linear(mlp_size, config.hidden_size)

    def forward(self, x_BTC: Tensor) -> Tensor:
        return self.down(F.gelu(self.up(x_BTC), approximate=self.approximate))


class BERTHead(Head):
    """A layer, GELU and norm before the output matrix, which has a bias."""

    def __init__(self, config: BERTConfig, vocab_size: int, *, loss: Loss = Loss.auto) -> None:
        super().__init__(config.hidden_size, vocab_size, bias=True, loss=loss)
        self.approximate = "tanh" if config.gelu is GELU.tanh else "none"
        self.dense = nn.Linear(config.hidden_size, config.hidden_size)
        self.norm = nn.LayerNorm(config.hidden_size, eps=config.norm_epsilon)

    def features(self, hidden_BTC: Tensor) -> Tensor:
        return self.norm(F.gelu(self.dense(hidden_BTC), approximate=self.approximate))
