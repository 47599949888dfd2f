import doctest
import math

import pytest

from lmexp import metrics
from lmexp.errors import DataError
from lmexp.metrics import ANSWERS, bits_per_byte, model_flops_utilization, peak_flops, perplexity, score_texts


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


@pytest.mark.parametrize(
    ("device", "teraflops"),
    [
        ("NVIDIA H100 80GB HBM3", 989.4),
        ("NVIDIA H100 PCIe", 756),
        ("NVIDIA H200", 989.4),
        ("NVIDIA A100-SXM4-80GB", 312),
        ("NVIDIA L4", 121),
        ("NVIDIA L40S", 362),
        ("NVIDIA GeForce RTX 4090", 165.2),
        ("NVIDIA L40", None),
        ("Tesla T4", None),
        ("cpu", None),
    ],
)
def test_the_peak_of_a_gpu_goes_by_its_whole_name(device: str, teraflops: float | None) -> None:
    assert peak_flops(device) == (None if teraflops is None else pytest.approx(teraflops * 1e12))


def test_utilization_by_hand() -> None:
    flops = 6 * 124e6  # a forward and a backward pass through 124 million weights
    used = model_flops_utilization(flops, tokens_per_second=500_000, peak_flops=989.4e12)
    assert used == pytest.approx(0.376, abs=1e-3)


def test_the_examples_in_the_docstrings_hold() -> None:
    failed, tried = doctest.testmod(metrics)
    assert (failed, tried > 0) == (0, True)


def test_answers_are_scored_as_the_libraries_do_by_hand() -> None:
    scores = score_texts(["the cat sat", " a dog "], ["the cat ran", "a dog"], ANSWERS)
    assert scores["exact_match"] == 0.5
    assert scores["rougeL"] == pytest.approx((2 / 3 + 1) / 2)
    assert 50 < scores["chrf"] < 100
    same = score_texts(["same"], ["same"], ANSWERS)
    assert same == {"exact_match": 1, "rouge1": 1, "rouge2": 0, "rougeL": 1, "chrf": pytest.approx(100)}
