"""Stacked LSTM language model.

Choices: dropout on the embedding, between the layers and on the output, none inside the recurrence (Zaremba et al.
2014); tied embeddings with a projection where the widths differ; the head's rows and the embedding in U(-0.1, 0.1),
torch's own initialisation of the recurrent weights with the forget gate's input bias at 1 (Jozefowicz et al. 2015).
Shapes: B rows, T tokens, C hidden size, E embedding size, L layers, P pieces of rows that belong to one document.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from lmexp.config.model import LSTMConfig
from lmexp.models.heads import Head
from lmexp.models.layers import document_begins
from lmexp.models.state import LanguageModel, LSTMState, matrix_flops


class LSTM(LanguageModel):
    """Embedding, LSTM layers, head."""

    def __init__(self, config: LSTMConfig, *, vocab_size: int, context_length: int) -> None:
        super().__init__()
        self.config = config
        embedding_size = config.embedding_size or config.hidden_size
        self.embedding = nn.Embedding(vocab_size, embedding_size)
        self.lstm = nn.LSTM(
            embedding_size,
            config.hidden_size,
            config.num_layers,
            batch_first=True,
            dropout=config.dropout if config.num_layers > 1 else 0.0,
        )
        output_size = embedding_size if config.tie_embeddings else config.hidden_size
        needs_projection = output_size != config.hidden_size
        self.projection = nn.Linear(config.hidden_size, output_size, bias=False) if needs_projection else nn.Identity()
        self.head = Head(output_size, vocab_size, bias=config.output_bias, loss=config.loss)
        nn.init.uniform_(self.embedding.weight, -0.1, 0.1)
        nn.init.uniform_(self.head.weight, -0.1, 0.1)
        if config.tie_embeddings:
            self.head.weight = self.embedding.weight
        self._open_forget_gates()

    @torch.compiler.disable  # torch.compile cannot see into nn.LSTM, and warns at what is around it
    def forward(
        self, tokens_BT: Tensor, state: LSTMState | None = None, segments_BT: Tensor | None = None
    ) -> tuple[Tensor, LSTMState]:
        if state is None:
            state = self.new_state(len(tokens_BT), 0)
        x_BTE = F.dropout(self.embedding(tokens_BT), self.config.dropout, self.training)
        carried = (state.hidden_LBC.to(x_BTE.dtype), state.cell_LBC.to(x_BTE.dtype))
        with torch.autocast("cpu", enabled=False):  # few CPUs have oneDNN's LSTM in bfloat16
            if segments_BT is None:
                x_BTC, (hidden, cell) = self.lstm(x_BTE, carried)
            else:
                x_BTC, (hidden, cell) = self._run_by_document(x_BTE, carried, segments_BT)
        x_BTC = self.projection(F.dropout(x_BTC, self.config.dropout, self.training))
        return x_BTC, LSTMState(hidden, cell, state.length + tokens_BT.shape[1])

    def new_state(self, batch_size: int, max_length: int) -> LSTMState:
        zeros = self.embedding.weight.new_zeros(self.config.num_layers, batch_size, self.config.hidden_size)
        return LSTMState(zeros, zeros)

    def flops_per_token(self, context_length: int) -> float:
        return matrix_flops(self)

    def _open_forget_gates(self) -> None:
        size = self.config.hidden_size
        for name, bias in self.lstm.named_parameters():
            if name.startswith("bias_ih"):
                nn.init.ones_(bias.data[size : 2 * size])

    def _run_by_document(
        self, x_BTE: Tensor, carried: tuple[Tensor, Tensor], segments_BT: Tensor
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """Run every piece of a row that belongs to one document from its own start.

        The first piece of a row goes on from the carried state: a row that begins with a new document must come with a
        state of zeros. The state after a row is that of its last piece.
        """
        begins = document_begins(segments_BT).flatten()
        starts_P = begins.nonzero().squeeze(1)
        lengths_P = torch.diff(starts_P, append=starts_P.new_tensor([begins.numel()]))
        is_first_P = starts_P % segments_BT.shape[1] == 0
        is_last_P = torch.cat((is_first_P[1:], is_first_P.new_ones(1)))
        pieces = x_BTE.flatten(0, 1).split(lengths_P.tolist())
        packed = pack_padded_sequence(
            nn.utils.rnn.pad_sequence(list(pieces), batch_first=True),
            lengths_P.cpu(),
            batch_first=True,
            enforce_sorted=False,
        )
        first_states = [part.new_zeros(part.shape[0], len(starts_P), part.shape[2]) for part in carried]
        for state, part in zip(first_states, carried, strict=True):
            state[:, is_first_P] = part
        packed_output, (hidden, cell) = self.lstm(packed, (first_states[0], first_states[1]))
        padded, _ = pad_packed_sequence(packed_output, batch_first=True)
        within = torch.arange(padded.shape[1], device=padded.device) < lengths_P[:, None]
        output_BTC = padded[within].view(*segments_BT.shape, -1)
        return output_BTC, (hidden[:, is_last_P], cell[:, is_last_P])
