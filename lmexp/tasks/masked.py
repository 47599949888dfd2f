"""Fill in masked tokens: BERT's masked language modelling.

What is masked is computed from (seed, micro-step, position in the text), in val and test from the position alone; so
it depends neither on the batch size nor on the ranks, a resumed run masks the same, and all runs over a text and a
tokenizer are measured on the same tokens. Only the hidden states of masked tokens reach the head.
Source: Devlin et al. 2019, section 3.1 and appendix A.1. Shapes: B rows, T tokens, C hidden size, N masked tokens.
"""

import hashlib
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, distributed

from lmexp.config.task import MaskedConfig
from lmexp.config.train import TrainConfig
from lmexp.data.batches import IGNORE, Batch
from lmexp.errors import DataError
from lmexp.metrics import perplexity
from lmexp.models.adapters import mask_id
from lmexp.models.state import LanguageModel
from lmexp.tasks.base import Metrics, Shown, Task, scattered
from lmexp.tokenization import Tokenizer

BITS = 24
"""Random numbers are compared as integers of so many bits, which every device computes alike."""
SHARE_MASKED, SHARE_RANDOM = 0.8, 0.1
"""Of the tokens to be predicted: what becomes the mask, and what becomes any token; the rest stay as they are."""

GOLDEN, MIX1, MIX2 = 0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB


class Masked(Task):
    """Cross-entropy of the masked tokens."""

    def __init__(self, config: MaskedConfig, **runtime: Any) -> None:
        super().__init__(config, **runtime)
        self.masking = Masking(config, self.corpus.tokenizer)

    @staticmethod
    def count_flops(config: MaskedConfig, model: LanguageModel, context_length: int) -> float:
        """Return the operations for each token read; the head sees the masked ones only."""
        in_head = sum(weight.numel() for weight in model.head.parameters() if weight.ndim >= 2)
        return model.flops_per_token(context_length) - 6.0 * in_head * (1 - config.masked_fraction)

    @staticmethod
    def shown(batch: Batch, config: TrainConfig, tokenizer: Tokenizer) -> Iterator[list[Shown]]:
        """Yield what the model reads; of a token that is learned what stands in its place."""
        assert isinstance(config.task, MaskedConfig)
        read_BT, is_target_BT = Masking(config.task, tokenizer)(batch, draw_key(config.seed, batch["micro_step"]))
        segments_BT = batch.get("segments_BT", torch.ones_like(read_BT))
        for rows in zip(read_BT.tolist(), is_target_BT.tolist(), segments_BT.tolist(), strict=True):
            yield list(map(Shown, *rows))

    def loss(self, batch: Batch, carried: None) -> tuple[Tensor, Tensor, None]:
        tokens_BT, is_target_BT = self.masking(batch, draw_key(self.config.seed, batch["micro_step"]))
        hidden_BTC, _ = self.model(tokens_BT, None, batch.get("segments_BT"))
        loss_sum = self.model.head.nll_sum(hidden_BTC[is_target_BT], batch["tokens_BT"][is_target_BT])
        return loss_sum, self._count_for_mean(is_target_BT.sum()), None

    def token_losses(self, batch: Batch, carried: None) -> tuple[Tensor, Tensor, None]:
        tokens_BT, is_target_BT = self.masking(batch)
        hidden_BTC, _ = self.model(tokens_BT, None, segments(batch))
        nll_N = self.model.head.nll(hidden_BTC[is_target_BT], batch["tokens_BT"][is_target_BT])
        return scattered(nll_N, is_target_BT), is_target_BT, None

    def metrics_of(self, split: str, sums: Sequence[float], num_targets: float) -> Metrics:
        """Return the metrics of a split; bits per byte would need the likelihood of the text, which this is not.

        Raises:
            DataError: the split is so short that nothing in it is masked.
        """
        if not num_targets:
            raise DataError(f"no token of the {split} split is masked; give it more text")
        loss = sums[0] / num_targets
        return {f"{split}/loss_nats": loss, f"{split}/perplexity": perplexity(loss)}

    def _count_for_mean(self, count: Tensor) -> Tensor:
        """Return what a rank divides its sum by, so that the mean over ranks is the mean over all masked tokens."""
        if distributed.is_available() and distributed.is_initialized():
            count = self.trainer.strategy.reduce(count.float(), reduce_op="mean")
        return count.clamp(min=1e-6)  # where nothing is masked the sum is 0


class Masking:
    """Which tokens of a batch are to be predicted, and what the model reads in their place."""

    def __init__(self, config: MaskedConfig, tokenizer: Tokenizer) -> None:
        self.config, self.tokenizer, self.mask_id = config, tokenizer, mask_id(tokenizer)
        self.word_edges = tuple(map(torch.from_numpy, tokenizer.word_edges)) if config.whole_words else None

    def __call__(self, batch: Batch, key: int = 0) -> tuple[Tensor, Tensor]:
        """Return (tokens that the model reads, whether each is to be predicted).

        The token that ends a document, and what lies beyond the end of the text, never is.
        Shape: (B, T) each.
        """
        tokens_BT = batch["tokens_BT"]
        columns_T = torch.arange(tokens_BT.shape[1], device=tokens_BT.device)
        position_BT = batch["starts_B"][:, None] + columns_T
        unit_BT = position_BT if self.word_edges is None else position_BT.gather(1, self._first_of_word(batch))
        is_target_BT = draw(key, unit_BT, 0) % 2**BITS < round(self.config.masked_fraction * 2**BITS)
        is_target_BT &= (tokens_BT != self.tokenizer.end_of_document_id) & (batch["targets_BT"] != IGNORE)
        kind_BT = draw(key, unit_BT, 1) % 2**BITS
        becomes_mask_BT = is_target_BT & (kind_BT < round(SHARE_MASKED * 2**BITS))
        becomes_random_BT = is_target_BT & (kind_BT >= round((1 - SHARE_RANDOM) * 2**BITS))
        random_BT = draw(key, position_BT, 2) % self.tokenizer.vocab_size
        read_BT = torch.where(becomes_random_BT, random_BT, tokens_BT)
        return read_BT.masked_fill(becomes_mask_BT, self.mask_id), is_target_BT

    def _first_of_word(self, batch: Batch) -> Tensor:
        """Return the column of the first token of each token's word; a row begins with a word.

        Shape: (B, T).
        """
        assert self.word_edges is not None
        tokens_BT = batch["tokens_BT"]
        goes_on_V, can_go_on_V = (table.to(tokens_BT.device) for table in self.word_edges)
        begins_BT = torch.ones_like(tokens_BT, dtype=torch.bool)
        begins_BT[:, 1:] = ~(goes_on_V[tokens_BT[:, 1:]] & can_go_on_V[tokens_BT[:, :-1]])
        if "segments_BT" in batch:
            begins_BT[:, 1:] |= batch["segments_BT"][:, 1:] != batch["segments_BT"][:, :-1]
        columns_T = torch.arange(tokens_BT.shape[1], device=tokens_BT.device)
        return torch.cummax(columns_T * begins_BT, dim=1).values


def segments(batch: Batch) -> Tensor | None:
    """Return the documents of an evaluation batch: what lies beyond the end of the text is one of its own."""
    beyond_BT = batch["targets_BT"] == IGNORE
    if not beyond_BT.any():
        return batch.get("segments_BT")
    return batch.get("segments_BT", torch.ones_like(batch["tokens_BT"])).masked_fill(beyond_BT, 0)


def draw_key(seed: int, micro_step: int) -> int:
    """Return the key of a micro-step's random numbers."""
    digest = hashlib.blake2b(f"masked,{seed},{micro_step}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big", signed=True)


def draw(key: int, position_BT: Tensor, number: int) -> Tensor:
    """Return a random number of 63 bits for each position, from a counter: the third of three is `number` 2.

    Shape: (B, T) -> (B, T).
    Source: SplitMix64 (Steele et al. 2014, figure 17).
    """
    z_BT = _signed(key) + (3 * position_BT + number + 1) * _signed(GOLDEN)
    z_BT = (z_BT ^ _shift(z_BT, 30)) * _signed(MIX1)
    z_BT = (z_BT ^ _shift(z_BT, 27)) * _signed(MIX2)
    return _shift(z_BT ^ _shift(z_BT, 31), 1)


def _shift(z: Tensor, bits: int) -> Tensor:
    """Shift right as an unsigned number, which torch's own shift does not."""
    return (z >> bits) & (2 ** (64 - bits) - 1)


def _signed(number: int) -> int:
    return number - 2**64 if number >= 2**63 else number
