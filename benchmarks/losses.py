"""The loss of a peer's model, taken the way ours is: rows side by side, every token but the first once."""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

ROWS = 32


def mean_loss(logits_of: Callable[[Tensor], Tensor], ids: np.ndarray, context_length: int) -> float:
    """Return the mean loss in nats over a split; rows of `context_length` follow each other, none sees another."""
    tokens = torch.from_numpy(ids.astype(np.int64))
    whole = (len(tokens) - 1) // context_length * context_length
    inputs, targets = tokens[:whole].view(-1, context_length), tokens[1 : whole + 1].view(-1, context_length)
    rest = (tokens[None, whole:-1], tokens[None, whole + 1 :])
    total = 0.0
    with torch.no_grad():
        for rows_BT, targets_BT in (*zip(inputs.split(ROWS), targets.split(ROWS), strict=True), rest):
            if rows_BT.numel():
                logits_BTV = logits_of(rows_BT)
                total += F.cross_entropy(logits_BTV.flatten(0, 1), targets_BT.flatten(), reduction="sum").item()
    return total / (len(tokens) - 1)
