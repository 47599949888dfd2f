"""Write one text from another: translation, summarisation, any pairs.

The loss is the mean over all target tokens of an optimizer step, whichever micro-step or rank they are in. Only the
hidden states of real tokens reach the head. What is written is compared with the targets as their files have them, not
as a tokenizer spells them.
Shapes: B rows, S tokens of a source, T of a target, C hidden size, N target tokens of a batch.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lmexp.config.schema import build
from lmexp.config.task import Seq2SeqConfig
from lmexp.config.train import TrainConfig
from lmexp.data.batches import IGNORE, Batch
from lmexp.generation.forms import form_of
from lmexp.generation.sampling import Sampling
from lmexp.metrics import score_texts
from lmexp.tasks.answers import Question, answers
from lmexp.tasks.base import Metrics, Shown, Task, scattered
from lmexp.tokenization import Tokenizer


class Seq2Seq(Task):
    """Cross-entropy of the targets."""

    def __init__(self, config: Seq2SeqConfig, **runtime: Any) -> None:
        super().__init__(config, **runtime)
        self.settings = config

    def start_head_at_frequencies(self) -> None:
        """Let an output bias start at the frequencies of the tokens in the targets."""
        file = self.corpus.open("train")
        counts = np.bincount(file.ids[file.is_learned], minlength=len(self.model.head.weight))
        self.model.head.start_at_frequencies(torch.from_numpy(counts))

    @staticmethod
    def shown(batch: Batch, config: TrainConfig, tokenizer: Tokenizer) -> Iterator[list[Shown]]:
        """Yield the source of each row, and its target, which is learned."""
        rows = (batch[key].tolist() for key in ("source_BS", "source_mask_BS", "targets_BT"))
        for source, mask, targets in zip(*rows, strict=True):
            read = [Shown(token, False, 0) for token, is_real in zip(source, mask, strict=True) if is_real]
            yield [*read, *(Shown(token, True, 0) for token in targets if token != IGNORE)]

    def loss(self, batch: Batch, carried: None) -> tuple[Tensor, float, None]:
        hidden_NC, targets_N = self._learned(batch)
        smoothing = self.settings.label_smoothing
        return self.model.head.smoothed_nll_sum(hidden_NC, targets_N, smoothing), batch["mean_learned"], None

    def token_losses(self, batch: Batch, carried: None) -> tuple[Tensor, Tensor, None]:
        hidden_NC, targets_N = self._learned(batch)
        is_learned_BT = batch["targets_BT"] != IGNORE
        return scattered(self.model.head.nll(hidden_NC, targets_N), is_learned_BT), is_learned_BT, None

    def written_metrics(self, split: str) -> Metrics:
        if not self.settings.metrics:
            return {}
        metrics: Metrics = {}
        if self.trainer.is_global_zero:
            questions = self.questions(split, self.settings.num_written if split == "val" else None)
            found = self.write(questions)
            scores = self.score(found, [question.answer for question in questions])
            metrics = {f"{split}/{name}": value for name, value in scores.items()}
        return self.trainer.strategy.broadcast(metrics)

    def questions(self, split: str, count: int | None = None) -> list[Question]:
        """Return the first pairs of a split, or all; a source is cut where it is longer than a row."""
        file, most = self.corpus.open(split), self.config.data.context_length
        starts = np.append(np.asarray(file.document_starts), len(file.ids))
        pairs = enumerate(build(self.config.data).pairs(split))
        return [
            Question(file.ids[starts[2 * number] : starts[2 * number + 1]][:most].tolist(), target)
            for number, (_, target) in pairs
            if count is None or number < count
        ]

    def write(self, questions: list[Question]) -> list[str]:
        """Return what the model writes from each source."""
        settings = self.settings
        sampling = Sampling(
            max_tokens=settings.max_tokens or self.config.data.context_length,
            temperature=0,
            num_beams=settings.num_beams,
            length_penalty=settings.length_penalty if settings.num_beams > 1 else 1.0,
        )
        return answers(self.model, form_of(self.config, self.corpus.tokenizer), questions, sampling)

    def score(self, found: list[str], expected: list[str]) -> dict[str, float]:
        """Return the scores of texts that were written."""
        options = {"lowercase": self.settings.lowercase, "bleu_tokenizer": self.settings.bleu_tokenizer}
        return score_texts(found, expected, self.settings.metrics, **options)  # type: ignore[arg-type]

    def _learned(self, batch: Batch) -> tuple[Tensor, Tensor]:
        tokens_BT, targets_BT = batch["tokens_BT"], batch["targets_BT"]
        model: Any = self.model
        if model.first_target_id is not None:
            tokens_BT = torch.cat((torch.full_like(tokens_BT[:, :1], model.first_target_id), tokens_BT[:, 1:]), dim=1)
        state = model.encode(batch["source_BS"], batch["source_mask_BS"])
        hidden_BTC, _ = model(tokens_BT, state)
        is_learned_BT = targets_BT != IGNORE
        return hidden_BTC[is_learned_BT], targets_BT[is_learned_BT]
