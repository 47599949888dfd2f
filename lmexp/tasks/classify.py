"""Tell which label a text has.

The loss is the mean over all texts of an optimizer step, whichever micro-step or rank they are in. What a split is
measured by follows from sums: the confusion matrix, and the confidence of the model in each of some bins.
Shapes: B rows, T tokens, K labels.
"""

import json
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from lmexp.config.task import ClassifyConfig
from lmexp.config.train import TrainConfig
from lmexp.data.batches import IGNORE, Batch
from lmexp.errors import ConfigError, Problem
from lmexp.metrics import CALIBRATION_BINS, calibration_error, macro_f1, per_class
from lmexp.models.classifier import LabelHead, label_scores
from lmexp.models.heads import single
from lmexp.runs.report.confusion import as_svg
from lmexp.tasks.base import Metrics, Shown, Task
from lmexp.tokenization import Tokenizer


class Classify(Task):
    """Cross-entropy of the labels."""

    def __init__(self, config: ClassifyConfig, **runtime: Any) -> None:
        super().__init__(config, **runtime)
        self.settings, self.labels = config, self.corpus.labels
        self.num_sums = 1 + len(self.labels) ** 2 + 3 * CALIBRATION_BINS  # type: ignore[misc]
        self.register_buffer("class_weights_K", self._class_weights(), persistent=False)
        self._confusion: dict[str, NDArray[np.int64]] = {}

    def start_head_at_frequencies(self) -> None:
        """Let the scores start at how frequent the labels are."""
        if not (self.settings.balanced or self.settings.class_weights):
            self.model.head.start_at_frequencies(torch.from_numpy(self._label_counts()))

    @staticmethod
    def shown(batch: Batch, config: TrainConfig, tokenizer: Tokenizer) -> Iterator[list[Shown]]:
        """Yield the texts; a label is no token."""
        for tokens, mask in zip(batch["tokens_BT"].tolist(), batch["mask_BT"].tolist(), strict=True):
            yield [Shown(token, False, 0) for token, is_real in zip(tokens, mask, strict=True) if is_real]

    def loss(self, batch: Batch, carried: None) -> tuple[Tensor, float, None]:
        weight: Any = self.class_weights_K
        loss = F.cross_entropy(
            self._scores(batch),
            batch["labels_B"],
            weight=weight,
            ignore_index=IGNORE,
            label_smoothing=self.settings.label_smoothing,
            reduction="sum",
        )
        return loss, batch["mean_learned"], None

    def probabilities(self, batch: Batch) -> Tensor:
        """Return how likely each label is; of texts that do not count, too.

        Shape: (B, K).
        """
        return self._scores(batch).double().softmax(-1)

    def evaluate(self, batch: Batch, carried: None) -> tuple[Tensor, Tensor, None]:
        is_counted_B = batch["labels_B"] != IGNORE
        labels_B, scores_BK = batch["labels_B"][is_counted_B], self._scores(batch)[is_counted_B].double()
        loss = F.cross_entropy(scores_BK, labels_B, reduction="sum")
        confidence_B, found_B = scores_BK.softmax(-1).max(-1)
        confusion = torch.bincount(labels_B * len(self.labels) + found_B, minlength=len(self.labels) ** 2)
        bins_B = (confidence_B * CALIBRATION_BINS).ceil().long().clamp(1, CALIBRATION_BINS) - 1
        calibration = [
            torch.bincount(bins_B, weights=values_B, minlength=CALIBRATION_BINS)
            for values_B in (torch.ones_like(confidence_B), confidence_B, (found_B == labels_B).double())
        ]
        return torch.cat((loss[None], confusion.double(), *calibration)), is_counted_B.sum(), None

    def metrics_of(self, split: str, sums: Sequence[float], num_targets: float) -> Metrics:
        loss, confusion, calibration = np.split(np.array(sums), [1, 1 + len(self.labels) ** 2])
        matrix = confusion.reshape(len(self.labels), -1).astype(np.int64)
        self._confusion[split] = matrix
        return {
            f"{split}/loss_nats": float(loss[0]) / num_targets,
            f"{split}/accuracy": float(np.trace(matrix)) / num_targets,
            f"{split}/macro_f1": macro_f1(matrix),
            f"{split}/calibration_error": calibration_error(*calibration.reshape(3, -1)),
        }

    def files_of(self, split: str) -> dict[str, str]:
        """Return the confusion matrix with the scores of each label, and a picture of it."""
        if split not in self._confusion:  # it was measured before the run was stopped
            return {}
        matrix = self._confusion[split]
        content = {
            "labels": list(self.labels),
            "confusion": matrix.tolist(),
            "per_class": dict(zip(self.labels, per_class(matrix), strict=True)),
        }
        return {
            f"confusion-{split}.json": json.dumps(content, ensure_ascii=False, indent=1),
            f"confusion-{split}.svg": as_svg(self.labels, matrix.tolist(), title=f"{split} split"),
        }

    def _scores(self, batch: Batch) -> Tensor:
        return single(label_scores(self.model, batch["tokens_BT"], batch["mask_BT"]))

    def _class_weights(self) -> Tensor | None:
        """Return the weight of each label in the loss, None where all are alike.

        Raises:
            ConfigError: there are more or fewer weights than labels.
        """
        assert isinstance(self.model.head, LabelHead)
        given = self.settings.class_weights
        if given and len(given) != len(self.labels):
            message = f"has {len(given)} weights, and there are {len(self.labels)} labels: {', '.join(self.labels)}"
            raise ConfigError([Problem("task.class_weights", message)])
        if self.settings.balanced:
            counts_K = self._label_counts()
            given = (counts_K.sum() / (len(counts_K) * np.maximum(counts_K, 1))).tolist()
        return torch.tensor(given) if given else None

    def _label_counts(self) -> NDArray[np.int64]:
        """Return how many texts to learn from have each label.

        Shape: (K).
        """
        labels = self.corpus.open("train").labels
        assert labels is not None
        return np.bincount(labels, minlength=len(self.labels))
