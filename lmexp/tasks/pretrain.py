"""Predict the next token of plain text."""

from typing import Any

from torch import Tensor

from lmexp.data.batches import IGNORE, Batch
from lmexp.models.state import LSTMState
from lmexp.tasks.base import Task


class Pretrain(Task):
    """Cross-entropy of the next token."""

    def loss(self, batch: Batch, carried: LSTMState | None) -> tuple[Tensor, int, Any]:
        hidden_BTC, state = self.model(batch["tokens_BT"], _kept(carried, batch), batch.get("segments_BT"))
        targets_BT = batch["targets_BT"]
        return self.model.head.nll_sum(hidden_BTC, targets_BT), targets_BT.numel(), state

    def token_losses(self, batch: Batch, carried: LSTMState | None) -> tuple[Tensor, Tensor, Any]:
        hidden_BTC, state = self.model(batch["tokens_BT"], _kept(carried, batch), batch.get("segments_BT"))
        nll_BT = self.model.head.nll(hidden_BTC, batch["targets_BT"])
        return nll_BT, batch["targets_BT"] != IGNORE, state


def _kept(carried: LSTMState | None, batch: Batch) -> LSTMState | None:
    """Return the state that goes on into this batch: none in shuffled order, zeros for rows that begin anew."""
    if carried is None or "resets_B" not in batch:
        return None
    keep_B1 = (~batch["resets_B"]).unsqueeze(-1)
    return LSTMState(carried.hidden_LBC * keep_B1, carried.cell_LBC * keep_B1, carried.length)
