"""What is measured, each with its formula and unit."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lmexp.config.task import TextMetric
from lmexp.errors import DataError, MissingPackageError


def perplexity(loss_nats: float) -> float:
    """Return the number of tokens that the model is as unsure between.

    Formula: exp(loss_nats). Comparable between equal tokenizers only; infinite where it overflows.
    """
    return math.inf if loss_nats > 700 else math.exp(loss_nats)


def bits_per_byte(nll_sum_nats: float, *, num_bytes: int) -> float:
    """Return the loss in bits for each byte of the original text.

    Formula: nll_sum_nats / (ln 2 * num_bytes). Lower is better; comparable across tokenizers.

    Raises:
        DataError: num_bytes is 0.

    Example:
        >>> bits_per_byte(math.log(2) * 8, num_bytes=4)
        2.0
    """
    if num_bytes == 0:
        raise DataError("bits per byte of a text without bytes")
    return nll_sum_nats / (math.log(2) * num_bytes)


ANSWERS = (TextMetric.exact_match, TextMetric.rouge, TextMetric.chrf)
"""What the answers of a conversation are compared by."""


def score_texts(
    found: Sequence[str],
    expected: Sequence[str],
    metrics: Sequence[TextMetric],
    *,
    lowercase: bool = False,
    bleu_tokenizer: str = "13a",
) -> dict[str, float]:
    """Return how near texts are to what they should be.

    bleu: the corpus score of sacreBLEU, from 0 to 100 (Papineni 2002, Post 2018). chrf: likewise (Popovic 2015).
    rouge: {"rouge1", "rouge2", "rougeL"}, the mean F1 of words, pairs of words and the longest common subsequence
    (Lin 2004), as rouge-score counts them, which knows Latin letters only. exact_match: the share that is equal but for
    white space around.

    Raises:
        MissingPackageError: sacrebleu or rouge-score is not installed.
    """
    pairs = [(one.lower(), other.lower()) if lowercase else (one, other) for one, other in _pairs(found, expected)]
    scores: dict[str, float] = {}
    for metric in metrics:
        if metric is TextMetric.exact_match:
            scores["exact_match"] = sum(one.strip() == other.strip() for one, other in pairs) / len(pairs)
        elif metric is TextMetric.rouge:
            of_pairs = rouge_of(found, expected)
            scores |= {name: sum(one[name] for one in of_pairs) / len(of_pairs) for name in ROUGE}
        else:
            counter = counter_of(metric, lowercase=lowercase, bleu_tokenizer=bleu_tokenizer)
            scores[metric.name] = counter.corpus_score(list(found), [list(expected)]).score
    return scores


ROUGE = ("rouge1", "rouge2", "rougeL")


def rouge_of(found: Sequence[str], expected: Sequence[str]) -> list[dict[str, float]]:
    """Return {"rouge1", "rouge2", "rougeL"} of each text, F1 each."""
    try:
        from rouge_score.rouge_scorer import RougeScorer
    except ModuleNotFoundError as error:
        raise _missing(error) from None
    scorer = RougeScorer(list(ROUGE))
    of_pairs = (scorer.score(other, one) for one, other in _pairs(found, expected))
    return [{name: value.fmeasure for name, value in one.items()} for one in of_pairs]


def counter_of(
    metric: TextMetric, *, lowercase: bool = False, bleu_tokenizer: str = "13a", effective_order: bool = False
) -> Any:
    """Return sacreBLEU's object for bleu or chrf; the effective order is for the BLEU of single sentences."""
    try:
        from sacrebleu.metrics import BLEU, CHRF
    except ModuleNotFoundError as error:
        raise _missing(error) from None
    if metric is TextMetric.chrf:
        return CHRF(lowercase=lowercase)
    return BLEU(lowercase=lowercase, tokenize=bleu_tokenizer, effective_order=effective_order)


def _pairs(found: Sequence[str], expected: Sequence[str]) -> list[tuple[str, str]]:
    return list(zip(found, expected, strict=True))


def _missing(error: ModuleNotFoundError) -> MissingPackageError:
    return MissingPackageError((error.name or "sacrebleu").partition(".")[0], "eval")


def per_class(confusion_KK: NDArray[np.int64]) -> list[dict[str, float]]:
    """Return {"precision", "recall", "f1", "support"} of each label; 0 where nothing is to be divided.

    A row of the matrix has the texts of a label, a column those that were given it.
    """
    hits_K, support_K, given_K = np.diag(confusion_KK), confusion_KK.sum(axis=1), confusion_KK.sum(axis=0)
    rows = zip(hits_K.tolist(), support_K.tolist(), given_K.tolist(), strict=True)
    return [
        {
            "precision": hits / max(1, given),
            "recall": hits / max(1, support),
            "f1": 2 * hits / max(1, given + support),
            "support": support,
        }
        for hits, support, given in rows
    ]


def macro_f1(confusion_KK: NDArray[np.int64]) -> float:
    """Return the mean over labels of 2 * hits / (given + support), the harmonic mean of precision and recall."""
    scores = [label["f1"] for label in per_class(confusion_KK)]
    return sum(scores) / len(scores)


CALIBRATION_BINS = 15


def calibration_error(counts: NDArray[Any], confidences: NDArray[Any], hits: NDArray[Any]) -> float:
    """Return how far confidence is from accuracy: the mean over texts of |accuracy - confidence| of their bin.

    Each argument has a sum for each bin of equal width in confidence. Source: Guo et al. 2017, equation 3.
    """
    return float(np.abs(hits - confidences).sum() / max(1.0, counts.sum()))


PEAK_FLOPS = {
    "B200": 2250e12,
    "H200 NVL": 835.5e12,
    "H200": 989.4e12,
    "H100 NVL": 835.5e12,
    "H100 PCIe": 756e12,
    "H100": 989.4e12,
    "A100": 312e12,
    "L40S": 362e12,
    "L4": 121e12,
    "RTX 4090": 165.2e12,
}
"""Dense bfloat16 operations a second, as the maker states them; a name further up is looked for first."""


def peak_flops(device_name: str) -> float | None:
    """Return the bfloat16 operations a second that a GPU can do at most, None for one that is not known here."""
    words = f" {device_name} ".replace("-", " ")
    return next((flops for name, flops in PEAK_FLOPS.items() if f" {name} " in words), None)


def model_flops_utilization(flops_per_token: float, *, tokens_per_second: float, peak_flops: float) -> float:
    """Return the share of the hardware's operations that the model's own are (MFU); recomputing does not count.

    Formula: flops_per_token * tokens_per_second / peak_flops, both rates over all devices.
    Source: Chowdhery et al. 2022 (PaLM), appendix B.
    """
    return flops_per_token * tokens_per_second / peak_flops
