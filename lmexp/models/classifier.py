"""From the hidden states of a text to scores of labels: the head that stands in the place of a language model's.

Shapes: B rows, T tokens, C hidden size, K labels.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lmexp.config.task import ClassifyConfig, Pooling
from lmexp.models.heads import Head
from lmexp.models.state import LanguageModel


class LabelHead(Head):
    """Pooling over the tokens of a text, dropout, and a layer that scores labels."""

    def __init__(self, hidden_size: int, num_labels: int, *, pooling: Pooling, dropout: float) -> None:
        super().__init__(hidden_size, num_labels, bias=True)
        self.pooling, self.dropout = pooling, dropout
        nn.init.normal_(self.weight, std=0.02)
        self.query = nn.Parameter(torch.zeros(hidden_size)) if pooling is Pooling.attention else None

    def pool(self, hidden_BTC: Tensor, mask_BT: Tensor) -> Tensor:
        """Return one state for each text.

        Shape: (B, T, C), (B, T) -> (B, C).
        """
        if self.pooling is Pooling.first:
            return hidden_BTC[:, 0]
        if self.pooling is Pooling.last:
            rows_B = torch.arange(len(hidden_BTC), device=hidden_BTC.device)
            return hidden_BTC[rows_B, mask_BT.sum(1) - 1]
        if self.pooling is Pooling.max:
            return hidden_BTC.masked_fill(~mask_BT[..., None], torch.finfo(hidden_BTC.dtype).min).amax(dim=1)
        if self.query is not None:
            scores_BT = (hidden_BTC @ self.query) * hidden_BTC.shape[-1] ** -0.5
            weights_BT = scores_BT.masked_fill(~mask_BT, float("-inf")).softmax(dim=1)
        else:
            weights_BT = mask_BT / mask_BT.sum(dim=1, keepdim=True)
        return (weights_BT[:, None].to(hidden_BTC) @ hidden_BTC)[:, 0]

    def scores(self, hidden_BTC: Tensor, mask_BT: Tensor) -> Tensor:
        """Return the scores of the labels.

        Shape: (B, T, C), (B, T) -> (B, K).
        """
        pooled_BC = F.dropout(self.pool(hidden_BTC, mask_BT), self.dropout, self.training)
        return self.logits(pooled_BC)


def label_scores(model: LanguageModel, tokens_BT: Tensor, mask_BT: Tensor) -> Tensor:
    """Return the scores of the labels of texts, which stand at the beginnings of their rows.

    Shape: (B, T), (B, T) -> (B, K).
    """
    assert isinstance(model.head, LabelHead)
    reads_on = mask_BT.all() or not model.reads_both_ways  # what comes after a text is nothing that it sees
    hidden_BTC, _ = model(tokens_BT, None, None if reads_on else mask_BT.long())
    return model.head.scores(hidden_BTC, mask_BT)


def with_label_head(model: LanguageModel, config: ClassifyConfig, num_labels: int) -> None:
    """Put a head that scores labels in the place of the one that scores tokens."""
    described: Any = getattr(model, "hf_config", None)
    hidden_size = model.head.weight.shape[1] if described is None else described.get_text_config().hidden_size
    model.head = LabelHead(hidden_size, num_labels, pooling=config.pooling, dropout=config.dropout)


def without_token_head(model: LanguageModel, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the weights of a language model for one that scores labels: with the head that it has itself."""
    own = {name: tensor for name, tensor in model.state_dict().items() if name.startswith("head.")}
    return {name: tensor for name, tensor in weights.items() if not name.startswith("head.")} | own
