import doctest
import math

import pytest

from lmexp import metrics
from lmexp.errors import DataError
from lmexp.metrics import bits_per_byte, perplexity


def test_perplexity_is_the_number_of_equally_likely_tokens() -> None:
    assert perplexity(math.log(50)) == pytest.approx(50)
    assert perplexity(0.0) == 1


def test_perplexity_of_a_huge_loss_is_infinite_and_of_nan_is_nan() -> None:
    assert perplexity(1e6) == math.inf
    assert perplexity(math.inf) == math.inf
    assert math.isnan(perplexity(math.nan))


def test_a_byte_chosen_among_256_evenly_costs_8_bits() -> None:
    assert bits_per_byte(100 * math.log(256), num_bytes=100) == pytest.approx(8)


def test_bits_per_byte_by_hand() -> None:
    loss_nats, tokens, num_bytes = 2.5, 30, 120
    assert bits_per_byte(loss_nats * tokens, num_bytes=num_bytes) == pytest.approx(75 / 0.6931471805599453 / 120)


def test_bits_per_byte_needs_bytes() -> None:
    with pytest.raises(DataError, match="without bytes"):
        bits_per_byte(1.0, num_bytes=0)


def test_the_examples_in_the_docstrings_hold() -> None:
    failed, tried = doctest.testmod(metrics)
    assert (failed, tried > 0) == (0, True)
