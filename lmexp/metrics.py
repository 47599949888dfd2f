"""What is measured, each with its formula and unit."""

import math

from lmexp.errors import DataError


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
