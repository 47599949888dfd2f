"""The layers that Transformers here are made of.

Shapes: B rows, T tokens, S tokens so far (T and those in the cache), C hidden size, H heads, D head size.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from lmexp.models.documents import Apart, Mask, apart, document_begins
from lmexp.models.state import KeyValueCache


def real_tokens_first(source_BS: Tensor, mask_BS: Tensor | None) -> tuple[Tensor, Tensor]:
    """Return the rows with their padding moved to the end, and which tokens are real.

    A row of padding alone keeps one token as if it were real, so that no softmax is over nothing.
    Shape: (B, S), (B, S) -> (B, S), (B, S).
    """
    if mask_BS is None:
        return source_BS, torch.ones_like(source_BS, dtype=torch.bool)
    order_BS = (~mask_BS).int().argsort(dim=1, stable=True)
    index_S = torch.arange(source_BS.shape[1], device=source_BS.device)
    return source_BS.gather(1, order_BS), index_S < mask_BS.sum(1, keepdim=True).clamp(min=1)


def place(
    tokens_BT: Tensor, cache: KeyValueCache | None, segments_BT: Tensor | None, *, as_tensor: bool = False
) -> tuple[Tensor, Mask | None]:
    """Return the position of each token in its document, and which tokens it may attend to: earlier ones of it.

    The mask is None where each row is one document. The cache remembers where the last documents begin.
    Shape: (B, T) -> (T,) or (B, T); (B, 1, T, S).
    """
    seen, length = 0 if cache is None else cache.length, tokens_BT.shape[1]
    starts_B = None if cache is None else cache.starts_B
    columns_T = torch.arange(seen, seen + length, device=tokens_BT.device)
    if segments_BT is not None:
        first_B = torch.zeros_like(segments_BT[:, 0]) if starts_B is None else starts_B
        begins_BT = torch.cat((first_B[:, None], (columns_T * document_begins(segments_BT))[:, 1:]), dim=1)
        starts_BT = torch.cummax(begins_BT, dim=1).values
        if cache is not None:
            cache.starts_B = starts_BT[:, -1] if starts_BT[:, -1].any() else None
    elif starts_B is not None:
        starts_BT = starts_B[:, None]
    else:
        return columns_T, None
    if segments_BT is not None and cache is None and not as_tensor and (documents := apart(segments_BT, causal=True)):
        return columns_T - starts_BT, documents
    columns_S = torch.arange(seen + length, device=tokens_BT.device)
    mask = (columns_S >= starts_BT[:, None, :, None]) & (columns_S <= columns_T[:, None])
    return columns_T - starts_BT, mask


def attend(
    q_BHTD: Tensor,
    k_BHTD: Tensor,
    v_BHTD: Tensor,
    *,
    cache: KeyValueCache | None = None,
    layer: int = 0,
    mask: Mask | None = None,
    causal: bool = True,
    dropout: float = 0.0,
) -> Tensor:
    """Return attention to what the mask allows; without one to earlier tokens, or to all if not `causal`.

    There may be fewer key-value heads than query heads.

    Shape: (B, H, T, D), (B, G, T, D), (B, G, T, D) -> (B, T, H * D).
    Source: Vaswani et al. 2017, equation 1; grouped queries: Ainslie et al. 2023.
    """
    if isinstance(mask, Apart):
        return mask.attend(q_BHTD, k_BHTD, v_BHTD, dropout=dropout).transpose(1, 2).flatten(-2)
    if cache is not None:
        k_BHTD, v_BHTD = cache.extend(layer, k_BHTD, v_BHTD)
    new, seen = q_BHTD.shape[2], k_BHTD.shape[2]
    is_causal = causal and mask is None and new > 1
    if is_causal and new != seen:  # torch's own rule would line up the first token with the first
        mask, is_causal = torch.ones(new, seen, dtype=torch.bool, device=q_BHTD.device).tril(seen - new), False
    attended_BHTD = F.scaled_dot_product_attention(
        q_BHTD,
        k_BHTD,
        v_BHTD,
        attn_mask=mask,
        dropout_p=dropout,
        is_causal=is_causal,
        enable_gqa=q_BHTD.shape[1] != k_BHTD.shape[1],
    )
    return attended_BHTD.transpose(1, 2).flatten(-2)


class ResidualBlock(nn.Module):
    """A layer of a Transformer: what is recomputed, or shared among GPUs, as one piece."""

    recomputes = False
    """Keep no activations in training, and compute them again in the backward pass."""


def through(block: nn.Module, *inputs: Any) -> Tensor:
    """Return what a block gives.

    Source: Chen et al. 2016 for recomputing.
    """
    if getattr(block, "recomputes", False) and block.training and torch.is_grad_enabled():
        return checkpoint(block, *inputs, use_reentrant=False)
    return block(*inputs)


def drop(x_BTC: Tensor, share: float, is_training: bool) -> Tensor:
    """Return the activations, with this share dropped in training; else without even a call of torch."""
    return F.dropout(x_BTC, share) if share and is_training else x_BTC


class Rotary(nn.Module):
    """Rotary position embedding, in the half-split layout of Llama and Qwen.

    Source: Su et al. 2021, equation 34.
    """

    def __init__(self, head_size: int, theta: float) -> None:
        super().__init__()
        self.head_size, self.theta = head_size, theta
        self._tables: tuple[Tensor, Tensor] | None = None

    def tables(self, length: int, like: Tensor) -> tuple[Tensor, Tensor]:
        """Return cosines and sines of the first positions, on the device of a tensor, and as exact as it is.

        Shape: (length, D) each.
        """
        device, dtype = like.device, torch.float64 if like.dtype is torch.float64 else torch.float32
        known = None if self._tables is None else self._tables[0]
        if known is None or len(known) < length or known.device != device or known.dtype != dtype:
            with torch.inference_mode(False):  # a table made in validation serves training too
                even = torch.arange(0, self.head_size, 2, dtype=torch.float64)
                frequencies = self.theta ** (-even / self.head_size)
                positions = torch.arange(max(2 * length, 128), dtype=torch.float64)
                angles = torch.outer(positions, frequencies).repeat(1, 2)
                self._tables = (angles.cos().to(device, dtype), angles.sin().to(device, dtype))
        assert self._tables is not None
        cos, sin = self._tables
        return cos[:length], sin[:length]


def rotate(x_BHTD: Tensor, cos_TD: Tensor, sin_TD: Tensor) -> Tensor:
    """Return the vectors turned by the angles of their positions.

    Shape: (B, H, T, D), (T, D), (T, D) -> (B, H, T, D).
    """
    first, second = x_BHTD.chunk(2, dim=-1)
    turned = torch.cat((-second, first), dim=-1)
    return (x_BHTD * cos_TD + turned * sin_TD).to(x_BHTD.dtype)


class StackedLinear(nn.Linear):
    """Several matrices of one input as one layer, which is sooner done; Muon still moves each on its own.

    Shape: (..., C) -> (..., parts * outputs).
    """

    def __init__(self, inputs: int, outputs: int, parts: int) -> None:
        super().__init__(inputs, parts * outputs, bias=False)
        self.parts = parts


class SwiGLU(nn.Module):
    """Gated feed-forward layer.

    Source: Shazeer 2020, equation 6.
    """

    def __init__(self, hidden_size: int, mlp_size: int) -> None:
        super().__init__()
        self.gate = nn.Linear(hidden_size, mlp_size, bias=False)
        self.up = nn.Linear(hidden_size, mlp_size, bias=False)
        self.down = nn.Linear(mlp_size, hidden_size, bias=False)

    def forward(self, x_BTC: Tensor) -> Tensor:
        return self.down(F.silu(self.gate(x_BTC)) * self.up(x_BTC))


class ReLU2(nn.Module):
    """Feed-forward layer with the square of a ReLU.

    Source: So et al. 2021 (Primer), section 3.
    """

    def __init__(self, hidden_size: int, mlp_size: int) -> None:
        super().__init__()
        self.up = nn.Linear(hidden_size, mlp_size, bias=False)
        self.down = nn.Linear(mlp_size, hidden_size, bias=False)

    def forward(self, x_BTC: Tensor) -> Tensor:
        return self.down(F.relu(self.up(x_BTC)).square())
