"""Prefer the chosen answer of a pair to the rejected one: direct preference optimisation (DPO).

The loss compares how much likelier each answer has become than it was to the reference: the model as the run began. The
mean is over all pairs of an optimizer step. Both answers of a pair share a row and do not see each other.
Source: Rafailov et al. 2023, equation 7. Shapes: P pairs.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from lmexp.config.task import PreferenceConfig, Reference
from lmexp.data.batches import Batch
from lmexp.errors import RunError
from lmexp.tasks.base import Metrics, Task
from lmexp.tasks.reference import NOT_ASKED, Live, Precomputed, log_likelihoods
from lmexp.tasks.sft import SFT

NAMES = ("loss_nats", "accuracy", "margin_nats", "chosen_reward", "rejected_reward")
"""What a split is measured by: the loss; how often the chosen answer has gained more than the rejected one; by how
much; and how much each has gained, times beta."""


class Preference(Task):
    """The loss of DPO."""

    num_sums = len(NAMES)
    shown = staticmethod(SFT.shown)

    def __init__(self, config: PreferenceConfig, **runtime: Any) -> None:
        super().__init__(config, **runtime)
        self.beta = config.beta
        self.reference = Live() if config.reference is Reference.live else Precomputed()
        self._split = "train"

    def loss(self, batch: Batch, carried: None) -> tuple[Tensor, float, None]:
        return self._sums(batch)[0], batch["mean_units"], None

    def token_losses(self, batch: Batch, carried: None) -> tuple[Tensor, Tensor, None]:
        """Raise, for an answer is measured beside another.

        Raises:
            RunError: always.
        """
        raise RunError(NOT_ASKED)

    def evaluate(self, batch: Batch, carried: None) -> tuple[Tensor, Tensor, None]:
        return self._sums(batch), torch.tensor(len(batch["units_U"]), device=self.device), None

    def metrics_of(self, split: str, sums: Sequence[float], num_targets: float) -> Metrics:
        return {f"{split}/{name}": value / num_targets for name, value in zip(NAMES, sums, strict=True)}

    def _sums(self, batch: Batch) -> Tensor:
        """Return the sums over pairs of what NAMES names.

        Shape: (5).
        """
        log_p_P2 = log_likelihoods(self.model, batch)
        gain_P2 = log_p_P2 - self.reference(self, batch, self._split).to(log_p_P2)
        margin_P = gain_P2[:, 0] - gain_P2[:, 1]
        loss = -F.logsigmoid(self.beta * margin_P).sum()
        with torch.no_grad():
            others = ((margin_P > 0).sum(), margin_P.sum(), *(self.beta * gain_P2.sum(dim=0)))
        return torch.stack((loss, *(other.to(loss) for other in others)))

    # -- the reference is asked before the first step -----------------------------------------------------------------

    def on_train_start(self) -> None:
        self.reference.begin(self)
        super().on_train_start()

    def on_validation_epoch_start(self) -> None:
        self.reference.begin(self)
        self._split = "val"
        super().on_validation_epoch_start()

    def on_validation_epoch_end(self) -> None:
        super().on_validation_epoch_end()
        self._split = "train"

    def on_test_epoch_start(self) -> None:
        self.on_validation_epoch_start()
        self._split = "test"

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        super().on_save_checkpoint(checkpoint)
        checkpoint["lmexp"]["reference"] = self.reference.state

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        super().on_load_checkpoint(checkpoint)
        self.reference.load(self, checkpoint["lmexp"]["reference"])
