"""What is measured, each with its formula and unit."""

import math
from collections.abc import Sequence

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


def score_answers(found: Sequence[str], expected: Sequence[str]) -> dict[str, float]:
    """Return {"exact_match", "rougeL", "chrf"} of texts against what they should be.

    exact_match: the share that is equal but for white space around. rougeL: the mean F1 of the longest common
    subsequence of words (Lin 2004), as rouge-score counts it, which knows Latin letters only. chrf: the corpus score of
    sacreBLEU, from 0 to 100 (Popovic 2015).

    Raises:
        MissingPackageError: sacrebleu or rouge-score is not installed.
    """
    try:
        from rouge_score.rouge_scorer import RougeScorer
        from sacrebleu.metrics import CHRF
    except ModuleNotFoundError as error:
        raise MissingPackageError((error.name or "sacrebleu").partition(".")[0], "eval") from None
    scorer = RougeScorer(["rougeL"])
    pairs = list(zip(found, expected, strict=True))
    return {
        "exact_match": sum(one.strip() == other.strip() for one, other in pairs) / len(pairs),
        "rougeL": sum(scorer.score(other, one)["rougeL"].fmeasure for one, other in pairs) / len(pairs),
        "chrf": CHRF().corpus_score(list(found), [list(expected)]).score,
    }


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
