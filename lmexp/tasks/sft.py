"""Learn the answers in conversations: supervised fine-tuning.

The loss is the mean over all learned tokens of an optimizer step, whichever micro-step, rank or row they are in: so
accumulation, ranks and packing do not change the gradient. Only the hidden states of learned tokens reach the head.
Shapes: B rows, T tokens, C hidden size, N learned tokens.
"""

from typing import Any

import torch
from torch import Tensor

from lmexp.data.batches import IGNORE, Batch
from lmexp.tasks.base import Task


class SFT(Task):
    """Cross-entropy of the answers."""

    def loss(self, batch: Batch, carried: None) -> tuple[Tensor, float, None]:
        hidden_NC, targets_N = self._learned(batch)
        return self.model.head.nll_sum(hidden_NC, targets_N), batch["mean_learned"], None

    def evaluate(self, batch: Batch, carried: None) -> tuple[Tensor, Tensor, None]:
        hidden_NC, targets_N = self._learned(batch)
        count = torch.tensor(len(targets_N), device=targets_N.device)
        return self.model.head.nll(hidden_NC, targets_N).double().sum(), count, None

    def _learned(self, batch: Batch) -> tuple[Tensor, Tensor]:
        hidden_BTC, _ = self.model(batch["tokens_BT"], None, batch["segments_BT"])
        is_learned_BT = batch["targets_BT"] != IGNORE
        return hidden_BTC[is_learned_BT], batch["targets_BT"][is_learned_BT]
