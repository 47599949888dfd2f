"""Stacked LSTM language model.

Choices: dropout on the embedding, between the layers and on the output (Zaremba et al. 2014); what AWD-LSTM adds on
request: one dropout mask for all steps, dropout of whole words and of recurrent weights, two penalties on the outputs
(Merity et al. 2017); tied embeddings with a projection where the widths differ; the head's rows and the embedding in
U(-0.1, 0.1), torch's own initialisation of the recurrent weights with the forget gate's input bias at 1 (Jozefowicz et
al. 2015). Shapes: B rows, T tokens, C hidden size, E embedding size, L layers, P pieces of rows that belong to one
document.
"""

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

from lmexp.config.model import LSTMConfig
from lmexp.models.documents import document_begins
from lmexp.models.heads import AdaptiveHead, Head
from lmexp.models.state import LanguageModel, LSTMState, matrix_flops


class LSTM(LanguageModel):
    """Embedding, LSTM layers, head."""

    def __init__(self, config: LSTMConfig, *, vocab_size: int, context_length: int) -> None:
        super().__init__()
        self.config = config
        hidden_size, embedding_size = config.hidden_size, config.embedding_size or config.hidden_size
        self.embedding = nn.Embedding(vocab_size, embedding_size)
        self.layers = nn.ModuleList(
            nn.LSTM(hidden_size if layer else embedding_size, hidden_size, batch_first=True)
            for layer in range(config.num_layers)
        )
        output_size = embedding_size if config.tie_embeddings else hidden_size
        needs_projection = output_size != hidden_size
        self.projection = nn.Linear(hidden_size, output_size, bias=False) if needs_projection else nn.Identity()
        if config.adaptive_cutoffs:
            self.head: Head = AdaptiveHead(output_size, vocab_size, config.adaptive_cutoffs, bias=config.output_bias)
        else:
            self.head = Head(output_size, vocab_size, bias=config.output_bias, loss=config.loss)
        nn.init.uniform_(self.embedding.weight, -0.1, 0.1)
        nn.init.uniform_(self.head.weight, -0.1, 0.1)
        if config.tie_embeddings:
            self.head.weight = self.embedding.weight
        for layer in self.layers:
            nn.init.ones_(layer.get_parameter("bias_ih_l0").data[hidden_size : 2 * hidden_size])

    @torch.compiler.disable  # torch.compile cannot see into nn.LSTM, and warns at what is around it
    def forward(
        self, tokens_BT: Tensor, state: LSTMState | None = None, segments_BT: Tensor | None = None
    ) -> tuple[Tensor, LSTMState]:
        config = self.config
        if state is None:
            state = self.new_state(len(tokens_BT), 0)
        between = config.dropout if config.hidden_dropout is None else config.hidden_dropout
        x_BTC = self._drop(
            self._embed(tokens_BT), config.dropout if config.input_dropout is None else config.input_dropout
        )
        carried = (state.hidden_LBC.to(x_BTC.dtype), state.cell_LBC.to(x_BTC.dtype))
        pieces = None if segments_BT is None else Pieces(segments_BT)
        hiddens, cells = [], []
        for number, layer in enumerate(self.layers):
            x_BTC, (hidden_BC, cell_BC) = self._run(layer, x_BTC, (carried[0][number], carried[1][number]), pieces)
            hiddens.append(hidden_BC)
            cells.append(cell_BC)
            if number + 1 < len(self.layers):
                x_BTC = self._drop(x_BTC, between)
        dropped_BTC = self._drop(x_BTC, config.dropout)
        self.penalty = self._penalty(x_BTC, dropped_BTC)
        length = state.length + tokens_BT.shape[1]
        return self.projection(dropped_BTC), LSTMState(torch.stack(hiddens), torch.stack(cells), length)

    def new_state(self, batch_size: int, max_length: int) -> LSTMState:
        zeros = self.embedding.weight.new_zeros(self.config.num_layers, batch_size, self.config.hidden_size)
        return LSTMState(zeros, zeros)

    def flops_per_token(self, context_length: int) -> float:
        return matrix_flops(self)

    def _embed(self, tokens_BT: Tensor) -> Tensor:
        """Return the embedded tokens; in training some of the vocabulary is dropped."""
        x_BTE = self.embedding(tokens_BT)
        if not (self.training and self.config.embedding_dropout):
            return x_BTE
        kept_V = F.dropout(x_BTE.new_ones(self.embedding.num_embeddings), self.config.embedding_dropout)
        return x_BTE * kept_V[tokens_BT].unsqueeze(-1)

    def _drop(self, x_BTC: Tensor, share: float) -> Tensor:
        """Return the activations with some dropped: with variational dropout the same ones at every step."""
        if not (self.config.variational_dropout and self.training and share):
            return F.dropout(x_BTC, share, self.training)
        return x_BTC * F.dropout(x_BTC.new_ones(len(x_BTC), 1, x_BTC.shape[2]), share)

    def _penalty(self, x_BTC: Tensor, dropped_BTC: Tensor) -> Tensor | None:
        """Return what training adds to the mean loss.

        Source: Merity et al. 2017, section 4.6.
        """
        alpha, beta = self.config.activation_penalty, self.config.temporal_penalty
        if not (self.training and (alpha or beta)):
            return None
        penalty = alpha * dropped_BTC.square().mean()
        return penalty + beta * x_BTC.diff(dim=1).square().mean() if x_BTC.shape[1] > 1 else penalty

    def _run(
        self, layer: nn.Module, x_BTC: Tensor, carried: tuple[Tensor, Tensor], pieces: "Pieces | None"
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """Run one layer; the state of each row goes in and comes out."""
        weights = {}
        if self.training and self.config.weight_dropout:
            weights["weight_hh_l0"] = F.dropout(layer.get_parameter("weight_hh_l0"), self.config.weight_dropout)
        with torch.autocast("cpu", enabled=False):  # few CPUs have oneDNN's LSTM in bfloat16
            if pieces is None:
                states = (carried[0][None], carried[1][None])
                output_BTC, (hidden, cell) = functional_call(layer, weights, (x_BTC, states))
                return output_BTC, (hidden[0], cell[0])
            states = (pieces.first_states(carried[0])[None], pieces.first_states(carried[1])[None])
            packed, (hidden, cell) = functional_call(layer, weights, (pieces.pack(x_BTC), states))
            return pieces.unpack(packed), (hidden[0, pieces.is_last_P], cell[0, pieces.is_last_P])


class Pieces:
    """The pieces of rows that belong to one document, each run from its own start.

    The first piece of a row goes on from the carried state: a row that begins with a new document must come with a
    state of zeros. The state after a row is that of its last piece.
    """

    def __init__(self, segments_BT: Tensor) -> None:
        self.shape = segments_BT.shape
        begins = document_begins(segments_BT).flatten()
        starts_P = begins.nonzero().squeeze(1)
        self.lengths_P = torch.diff(starts_P, append=starts_P.new_tensor([begins.numel()]))
        self.is_first_P = starts_P % segments_BT.shape[1] == 0
        self.is_last_P = torch.cat((self.is_first_P[1:], self.is_first_P.new_ones(1)))

    def first_states(self, carried_BC: Tensor) -> Tensor:
        """Return the state that each piece begins with: (B, C) -> (P, C)."""
        states_PC = carried_BC.new_zeros(len(self.lengths_P), carried_BC.shape[1])
        states_PC[self.is_first_P] = carried_BC
        return states_PC

    def pack(self, x_BTC: Tensor) -> PackedSequence:
        """Return the pieces as torch's layers take them."""
        pieces = list(x_BTC.flatten(0, 1).split(self.lengths_P.tolist()))
        padded = nn.utils.rnn.pad_sequence(pieces, batch_first=True)
        return pack_padded_sequence(padded, self.lengths_P.cpu(), batch_first=True, enforce_sorted=False)

    def unpack(self, packed: PackedSequence) -> Tensor:
        """Return the pieces as the rows they came from."""
        padded, _ = pad_packed_sequence(packed, batch_first=True)
        within = torch.arange(padded.shape[1], device=padded.device) < self.lengths_P[:, None]
        return padded[within].view(*self.shape, -1)
