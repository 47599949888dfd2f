"""Encoder of the decoder's layers: the blocks of `transformer.py`, in which every token sees both sides.

Choices: rotary positions say how far two tokens are apart, so a document is read the same wherever it begins in a row;
padding is a document of its own.
Shapes: B rows, T tokens, C hidden size.
"""

from typing import NoReturn

from torch import Tensor
from torch.nn import functional as F

from lmexp.models.documents import both_ways
from lmexp.models.layers import through
from lmexp.models.state import KeyValueCache
from lmexp.models.transformer import Transformer


class Encoder(Transformer):
    """Embedding, blocks, norm, head."""

    reads_both_ways = True

    def forward(
        self, tokens_BT: Tensor, state: KeyValueCache | None = None, segments_BT: Tensor | None = None
    ) -> tuple[Tensor, None]:
        cos, sin = self.rotary.tables(tokens_BT.shape[1], self.embedding.weight)
        mask = both_ways(segments_BT)
        x_BTC = F.dropout(self.embedding(tokens_BT), self.config.dropout, self.training)
        for block in self.blocks:
            x_BTC = through(block, x_BTC, cos, sin, None, mask)
        return self.norm(x_BTC), None

    def new_state(self, batch_size: int, max_length: int) -> NoReturn:
        raise NotImplementedError("an encoder reads all at once and remembers nothing")
