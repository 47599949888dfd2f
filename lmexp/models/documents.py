"""Documents that stand side by side in a row: where they begin, and attention that does not leave them.

Shapes: B rows, T tokens, H heads, G key-value heads, D head size.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

ONE_BY_ONE_FROM = 256
"""Length of row from which, on a CPU, attention to one document after the other is sooner done than with a mask; two
to three times as soon at 512."""


def document_begins(segments_BT: Tensor) -> Tensor:
    """Return whether each token is the first of its document, or of the row.

    Shape: (B, T) -> (B, T).
    """
    return F.pad(segments_BT[:, 1:] != segments_BT[:, :-1], (1, 0), value=True)


def positions_in_segments(segments_BT: Tensor) -> Tensor:
    """Return the position of each token in its document.

    Shape: (B, T) -> (B, T).
    """
    index_T = torch.arange(segments_BT.shape[1], device=segments_BT.device)
    return index_T - torch.cummax(index_T * document_begins(segments_BT), dim=1).values


def document_mask(segments_BT: Tensor) -> Tensor:
    """Return which tokens may be attended to by one that reads both ways: those of its document.

    Shape: (B, T) -> (B, 1, T, T).
    """
    documents_BT = document_begins(segments_BT).cumsum(1)
    return documents_BT[:, None, :, None] == documents_BT[:, None, None, :]


@dataclass(frozen=True)
class OneByOne:
    """In the place of a mask: the lengths of the documents, row after row, for attention to each by itself.

    Nothing is computed for pairs of tokens of two documents, where a mask throws it away.
    """

    lengths: list[int]

    def attend(self, q_BHTD: Tensor, k_BGTD: Tensor, v_BGTD: Tensor, *, causal: bool, dropout: float) -> Tensor:
        """Return attention of each token to earlier ones of its document, or to all of them if not `causal`.

        Shape: (B, H, T, D), (B, G, T, D), (B, G, T, D) -> (B, T, H * D).
        """
        parts = (x.transpose(1, 2).flatten(0, 1).split(self.lengths) for x in (q_BHTD, k_BGTD, v_BGTD))
        attended = [
            F.scaled_dot_product_attention(
                q_THD.transpose(0, 1)[None],
                k_TGD.transpose(0, 1)[None],
                v_TGD.transpose(0, 1)[None],
                dropout_p=dropout,
                is_causal=causal,
                enable_gqa=q_BHTD.shape[1] != k_BGTD.shape[1],
            )[0].transpose(0, 1)
            for q_THD, k_TGD, v_TGD in zip(*parts, strict=True)
        ]
        return torch.cat(attended).unflatten(0, (len(q_BHTD), -1)).flatten(-2)


def one_by_one(segments_BT: Tensor) -> OneByOne | None:
    """Return the documents for attention to each by itself; None where a mask is better.

    On a GPU many small calls are not, and a compiled graph has no room for what depends on their number.
    """
    if segments_BT.device.type != "cpu" or segments_BT.shape[1] < ONE_BY_ONE_FROM or torch.compiler.is_compiling():
        return None
    starts = document_begins(segments_BT).flatten().nonzero().flatten()
    return OneByOne(starts.diff(append=starts.new_tensor([segments_BT.numel()])).tolist())
