"""LSTM encoder-decoder with attention.

Choices: a bidirectional encoder whose last states the decoder starts from, layer by layer; attention of Bahdanau et al.
2015 or Luong et al. 2015, without the latter's input feeding, so that all steps are computed at once; either way the
head reads tanh(W [context; output]) (Luong, equation 5; Bahdanau has a maxout layer there); dropout on the embedding,
between the layers and on what the head reads (Zaremba et al. 2014); one vocabulary and one embedding for source and
target. Shapes: B rows, S source tokens, T target tokens, C hidden size, E embedding size, L layers.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from lmexp.config.model import Attention, LSTMAttentionConfig
from lmexp.models.documents import document_begins
from lmexp.models.heads import Head
from lmexp.models.layers import real_tokens_first
from lmexp.models.state import NEEDS_SOURCE, LSTMState, SourceModel, matrix_flops


class LSTMAttentionState:
    """What the decoder looks at, the state it started from, and the one it is in."""

    def __init__(
        self, keys_BSC: Tensor, values_BSC: Tensor, mask_BS: Tensor, start: LSTMState, carried: LSTMState
    ) -> None:
        self.keys_BSC = keys_BSC
        self.values_BSC = values_BSC
        self.mask_BS = mask_BS
        self.start = start
        self.carried = carried
        self.length = carried.length

    def select(self, rows: Tensor) -> "LSTMAttentionState":
        source = (self.keys_BSC[rows], self.values_BSC[rows], self.mask_BS[rows])
        return LSTMAttentionState(*source, self.start.select(rows), self.carried.select(rows))

    def detach(self) -> "LSTMAttentionState":
        source = (self.keys_BSC.detach(), self.values_BSC.detach(), self.mask_BS)
        return LSTMAttentionState(*source, self.start.detach(), self.carried.detach())

    def after(self, carried: LSTMState) -> "LSTMAttentionState":
        """Return the state in which the decoder has read on."""
        return LSTMAttentionState(self.keys_BSC, self.values_BSC, self.mask_BS, self.start, carried)


class LSTMAttention(SourceModel):
    """Embedding, encoder, decoder, attention, head."""

    def __init__(
        self, config: LSTMAttentionConfig, *, vocab_size: int, context_length: int, source_vocab_size: int | None = None
    ) -> None:
        super().__init__()
        self.config = config
        hidden_size, embedding_size = config.hidden_size, config.embedding_size or config.hidden_size
        is_bahdanau = config.attention is Attention.bahdanau
        self.embedding = nn.Embedding(vocab_size, embedding_size)
        self.source_embedding = None if source_vocab_size is None else nn.Embedding(source_vocab_size, embedding_size)
        stack = {
            "num_layers": config.num_layers,
            "dropout": config.dropout if config.num_layers > 1 else 0.0,
            "batch_first": True,
        }
        self.encoder = nn.LSTM(embedding_size, hidden_size // 2, bidirectional=True, **stack)
        self.decoder = nn.LSTM(embedding_size + hidden_size * is_bahdanau, hidden_size, **stack)
        self.attention = Additive(hidden_size) if is_bahdanau else General(hidden_size)
        output_size = embedding_size if config.tie_embeddings else hidden_size
        self.combine = nn.Linear(2 * hidden_size, output_size, bias=False)
        self.head = Head(output_size, vocab_size, bias=True, loss=config.loss)
        for embedding in filter(None, (self.embedding, self.source_embedding)):
            nn.init.uniform_(embedding.weight, -0.1, 0.1)
        nn.init.uniform_(self.head.weight, -0.1, 0.1)
        if config.tie_embeddings:
            self.head.weight = self.embedding.weight
        for lstm in (self.encoder, self.decoder):
            for name, bias in lstm.named_parameters():
                if name.startswith("bias_ih"):
                    nn.init.ones_(bias.data[lstm.hidden_size : 2 * lstm.hidden_size])  # forget gates begin open

    def encode(self, source_BS: Tensor, mask_BS: Tensor | None = None, *, max_length: int = 0) -> LSTMAttentionState:
        has_padding = mask_BS is not None
        source_BS, mask_BS = real_tokens_first(source_BS, mask_BS)
        x_BSE = self._drop((self.source_embedding or self.embedding)(source_BS))
        with torch.autocast("cpu", enabled=False):  # few CPUs have oneDNN's LSTM in bfloat16
            if has_padding:  # packed, so that the backward direction begins at the last real token
                packed = pack_padded_sequence(x_BSE, mask_BS.sum(1).cpu(), batch_first=True, enforce_sorted=False)
                packed, last = self.encoder(packed)
                x_BSC, _ = pad_packed_sequence(packed, batch_first=True, total_length=source_BS.shape[1])
            else:
                x_BSC, last = self.encoder(x_BSE)
        hidden_LBC, cell_LBC = (both_directions(x) for x in last)
        start = LSTMState(hidden_LBC, cell_LBC)
        return LSTMAttentionState(self.attention.key(x_BSC), x_BSC, mask_BS, start, start)

    @torch.compiler.disable
    def forward(
        self, tokens_BT: Tensor, state: LSTMAttentionState | None = None, segments_BT: Tensor | None = None
    ) -> tuple[Tensor, LSTMAttentionState]:
        if state is None:
            raise ValueError(NEEDS_SOURCE)
        at_once = self.config.attention is Attention.luong and segments_BT is None
        begins_BT = None if segments_BT is None else document_begins(segments_BT)
        x_BTE = self._drop(self.embedding(tokens_BT))
        carried, parts = state.carried, []
        for step, x_BtE in enumerate(x_BTE.split(x_BTE.shape[1] if at_once else 1, dim=1)):
            if begins_BT is not None and step:
                carried = restarted(carried, state.start, begins_BT[:, step])
            seen_BtC, carried = self._read(x_BtE, carried, state)
            parts.append(seen_BtC)
        hidden_BTC = torch.tanh(self.combine(torch.cat(parts, dim=1)))
        return self._drop(hidden_BTC), state.after(carried)

    def flops_per_token(self, context_length: int) -> float:
        """Return the operations for each token of the target, with a source of as many tokens.

        So each weight counts once, those of the encoder for the source token that goes with the target token.
        """
        return matrix_flops(self) + 12.0 * self.config.hidden_size * context_length

    def _read(self, x_BTE: Tensor, carried: LSTMState, state: LSTMAttentionState) -> tuple[Tensor, LSTMState]:
        """Return the contexts with the decoder's outputs, (B, T, 2C), and the state after them."""
        if isinstance(self.attention, Additive):
            context_BTC = self.attention(carried.hidden_LBC[-1][:, None], state)
            x_BTE = torch.cat((x_BTE, context_BTC.type_as(x_BTE)), dim=-1)
        with torch.autocast("cpu", enabled=False):
            output_BTC, (hidden_LBC, cell_LBC) = self.decoder(x_BTE, (carried.hidden_LBC, carried.cell_LBC))
        if isinstance(self.attention, General):
            context_BTC = self.attention(output_BTC, state)
        length = carried.length + x_BTE.shape[1]
        return torch.cat((context_BTC.type_as(output_BTC), output_BTC), dim=-1), LSTMState(hidden_LBC, cell_LBC, length)

    def _drop(self, x_BTC: Tensor) -> Tensor:
        return F.dropout(x_BTC, self.config.dropout, self.training)


def both_directions(last_LBC: Tensor) -> Tensor:
    """Return the last states of both directions side by side.

    Shape: (2L, B, C / 2) -> (L, B, C).
    """
    return torch.cat((last_LBC[0::2], last_LBC[1::2]), dim=-1)


def restarted(carried: LSTMState, start: LSTMState, begins_B: Tensor) -> LSTMState:
    """Return the state in which the rows that begin a document are at the start again."""
    hidden_LBC = torch.where(begins_B[:, None], start.hidden_LBC, carried.hidden_LBC)
    return LSTMState(hidden_LBC, torch.where(begins_B[:, None], start.cell_LBC, carried.cell_LBC), carried.length)


class General(nn.Module):
    """Attention with the score q^T W h.

    Source: Luong et al. 2015, equations 4 and 5 (general).
    """

    def __init__(self, hidden_size: int) -> None:
        super().__init__()
        self.key = nn.Linear(hidden_size, hidden_size, bias=False)

    def forward(self, query_BTC: Tensor, state: LSTMAttentionState) -> Tensor:
        return F.scaled_dot_product_attention(
            query_BTC, state.keys_BSC, state.values_BSC, attn_mask=state.mask_BS[:, None], scale=1.0
        )


class Additive(nn.Module):
    """Attention with the score v^T tanh(W q + U h).

    Source: Bahdanau et al. 2015, equations 5 and 6, and appendix A.1.2.
    """

    def __init__(self, hidden_size: int) -> None:
        super().__init__()
        self.query = nn.Linear(hidden_size, hidden_size, bias=False)
        self.key = nn.Linear(hidden_size, hidden_size, bias=False)
        self.score = nn.Parameter(torch.empty(hidden_size).uniform_(-1, 1) / math.sqrt(hidden_size))

    def forward(self, query_BTC: Tensor, state: LSTMAttentionState) -> Tensor:
        mixed_BTSC = torch.tanh(self.query(query_BTC)[:, :, None] + state.keys_BSC[:, None])
        scores_BTS = (mixed_BTSC @ self.score).float().masked_fill(~state.mask_BS[:, None], -torch.inf)
        return scores_BTS.softmax(-1).type_as(state.values_BSC) @ state.values_BSC
