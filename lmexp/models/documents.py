"""Documents that stand side by side in a row: where they begin, and attention that does not leave them.

A mask serves everywhere, but computes every score and throws most away. `apart` knows what is better: on a CPU one
document after the other (FlexAttention has no backward pass there), in a graph compiled for a GPU FlexAttention.
Shapes: B rows, T tokens, H heads, G key-value heads, D head size.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.nn.attention.flex_attention import create_block_mask, flex_attention

APART_FROM = 512
"""Length of row from which documents are kept apart without a mask: 1.7 times as soon on a CPU; at 256 it is 0.9."""
IN_BLOCKS_ON = "cuda"
SMALLEST_HEAD = 16
"""What FlexAttention can do on a GPU."""


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


def document_mask(segments_BT: Tensor, *, causal: bool) -> Tensor:
    """Return which tokens each may attend to: those of its document, only earlier ones and itself if `causal`.

    Shape: (B, T) -> (B, 1, T, T).
    """
    documents_BT = document_begins(segments_BT).cumsum(1)
    mask = documents_BT[:, None, :, None] == documents_BT[:, None, None, :]
    return mask.tril() if causal else mask


@dataclass(frozen=True)
class OneByOne:
    """In the place of a mask: the lengths of the documents, row after row, for attention to each by itself."""

    lengths: list[int]
    causal: bool

    def attend(self, q_BHTD: Tensor, k_BGTD: Tensor, v_BGTD: Tensor, *, dropout: float) -> Tensor:
        """Return attention within documents.

        Shape: (B, H, T, D), (B, G, T, D), (B, G, T, D) -> (B, H, T, D).
        """
        parts = (x.transpose(1, 2).flatten(0, 1).split(self.lengths) for x in (q_BHTD, k_BGTD, v_BGTD))
        attended = [
            F.scaled_dot_product_attention(
                q_THD.transpose(0, 1)[None],
                k_TGD.transpose(0, 1)[None],
                v_TGD.transpose(0, 1)[None],
                dropout_p=dropout,
                is_causal=self.causal,
                enable_gqa=q_BHTD.shape[1] != k_BGTD.shape[1],
            )[0].transpose(0, 1)
            for q_THD, k_TGD, v_TGD in zip(*parts, strict=True)
        ]
        return torch.cat(attended).unflatten(0, (len(q_BHTD), -1)).transpose(1, 2)


class InBlocks:
    """In the place of a mask, in a compiled graph: the blocks of scores that hold any within a document.

    Source: Dong et al. 2024 (FlexAttention).
    """

    def __init__(self, segments_BT: Tensor, *, causal: bool) -> None:
        self.segments_BT, self.causal = segments_BT, causal
        documents_BT = document_begins(segments_BT).cumsum(1)

        def is_seen(row: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
            in_document = documents_BT[row, query] == documents_BT[row, key]
            return in_document & (query >= key) if causal else in_document

        rows, length = segments_BT.shape
        self.blocks = create_block_mask(is_seen, rows, None, length, length, device=segments_BT.device)

    def attend(self, q_BHTD: Tensor, k_BGTD: Tensor, v_BGTD: Tensor, *, dropout: float) -> Tensor:
        """Return attention within documents.

        Shape: (B, H, T, D), (B, G, T, D), (B, G, T, D) -> (B, H, T, D).
        """
        is_grouped = q_BHTD.shape[1] != k_BGTD.shape[1]
        if dropout or q_BHTD.shape[-1] < SMALLEST_HEAD:
            mask = document_mask(self.segments_BT, causal=self.causal)
            return F.scaled_dot_product_attention(
                q_BHTD, k_BGTD, v_BGTD, attn_mask=mask, dropout_p=dropout, enable_gqa=is_grouped
            )
        q, k = (x.type_as(v_BGTD) for x in (q_BHTD, k_BGTD))  # autocast does not know it
        attended = flex_attention(q, k, v_BGTD, block_mask=self.blocks, enable_gqa=is_grouped)
        assert isinstance(attended, Tensor)
        return attended


Apart = OneByOne | InBlocks
Mask = Tensor | Apart
"""Which tokens may be attended to: true where they may, or the documents that stay among themselves."""


def both_ways(segments_BT: Tensor | None) -> Mask | None:
    """Return what a token that reads both ways may attend to: its document; None where each row is one document."""
    if segments_BT is None:
        return None
    return apart(segments_BT, causal=False) or document_mask(segments_BT, causal=False)


def apart(segments_BT: Tensor, *, causal: bool) -> Apart | None:
    """Return what keeps documents apart sooner than a mask; None where a mask is the best there is."""
    if segments_BT.shape[1] < APART_FROM:
        return None
    if torch.compiler.is_compiling():
        return InBlocks(segments_BT, causal=causal) if segments_BT.device.type == IN_BLOCKS_ON else None
    if segments_BT.device.type != "cpu":
        return None
    starts = document_begins(segments_BT).flatten().nonzero().flatten()
    return OneByOne(starts.diff(append=starts.new_tensor([segments_BT.numel()])).tolist(), causal)
