"""Learn the answers in conversations: supervised fine-tuning.

The loss is the mean over all learned tokens of an optimizer step, whichever micro-step, rank or row they are in: so
accumulation, ranks and packing do not change the gradient. Only the hidden states of learned tokens reach the head.
Shapes: B rows, T tokens, C hidden size, N learned tokens.
"""

from collections.abc import Iterator
from itertools import groupby
from typing import Any

from torch import Tensor

from lmexp.config.train import TrainConfig
from lmexp.data.batches import IGNORE, Batch
from lmexp.generation.forms import form_of
from lmexp.generation.sampling import Sampling
from lmexp.metrics import ANSWERS, score_texts
from lmexp.tasks.answers import answers, questions_of
from lmexp.tasks.base import Metrics, Shown, Task, scattered
from lmexp.tokenization import Tokenizer


class SFT(Task):
    """Cross-entropy of the answers."""

    def written_metrics(self, split: str) -> Metrics:
        task: Any = self.config.task
        if not task.num_answers:
            return {}
        metrics: Metrics = {}
        if self.trainer.is_global_zero:
            form = form_of(self.config, self.corpus.tokenizer)
            questions = questions_of(self.corpus.open(split), self.config.data, form, task.num_answers)
            found = answers(self.model, form, questions, Sampling(max_tokens=task.answer_tokens, temperature=0))
            scores = score_texts(found, [question.answer for question in questions], ANSWERS)
            metrics = {f"{split}/{name}": value for name, value in scores.items()}
        return self.trainer.strategy.broadcast(metrics)

    @staticmethod
    def shown(batch: Batch, config: TrainConfig, tokenizer: Tokenizer) -> Iterator[list[Shown]]:
        """Yield the conversations of each row; the last token of one is only learned, for nothing comes after it."""
        rows = (batch[key].tolist() for key in ("tokens_BT", "targets_BT", "segments_BT"))
        for row in zip(*rows, strict=True):
            shown: list[Shown] = []
            for segment, columns in groupby(zip(*row, strict=True), key=lambda column: column[2]):
                tokens, targets, _ = zip(*columns, strict=True)
                if segment == 0:
                    shown += [Shown(token, False, None) for token in tokens]
                    continue
                following = [*tokens[1:], targets[-1]]
                shown.append(Shown(tokens[0], False, segment))
                shown += [
                    Shown(i, t != IGNORE, segment) for i, t in zip(following, targets, strict=True) if i != IGNORE
                ]
            yield shown

    def loss(self, batch: Batch, carried: None) -> tuple[Tensor, float, None]:
        hidden_NC, targets_N = self._learned(batch)
        return self.model.head.nll_sum(hidden_NC, targets_N), batch["mean_learned"], None

    def token_losses(self, batch: Batch, carried: None) -> tuple[Tensor, Tensor, None]:
        hidden_NC, targets_N = self._learned(batch)
        is_learned_BT = batch["targets_BT"] != IGNORE
        return scattered(self.model.head.nll(hidden_NC, targets_N), is_learned_BT), is_learned_BT, None

    def _learned(self, batch: Batch) -> tuple[Tensor, Tensor]:
        hidden_BTC, _ = self.model(batch["tokens_BT"], None, batch["segments_BT"])
        is_learned_BT = batch["targets_BT"] != IGNORE
        return hidden_BTC[is_learned_BT], batch["targets_BT"][is_learned_BT]
