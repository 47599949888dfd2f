"""The choice of one token."""

import pytest
import torch
from torch import Tensor

from lmexp.errors import NumericsError
from lmexp.generation.sampling import Sampling, choose

LOGITS = torch.tensor([0.5, 0.1, 0.25, 0.15]).log()


def chosen(logits: Tensor, draws: int = 300, **sampling: float | int | None) -> set[int]:
    random = torch.Generator().manual_seed(0)
    return {choose(logits, Sampling(**({"temperature": 1.0} | sampling)), random) for _ in range(draws)}


def test_without_limits_every_token_can_come() -> None:
    assert chosen(LOGITS) == {0, 1, 2, 3}


def test_tokens_come_as_often_as_they_are_likely() -> None:
    random = torch.Generator().manual_seed(0)
    draws = torch.tensor([choose(LOGITS, Sampling(temperature=0.5), random) for _ in range(4000)])
    squares = torch.tensor([0.5, 0.1, 0.25, 0.15]) ** 2  # a temperature of 1/2 squares the odds
    shares = draws.bincount(minlength=4) / 4000
    assert (shares - squares / squares.sum()).abs().max() < 0.025  # three standard errors


def test_temperature_0_takes_the_likeliest_and_so_does_a_tiny_one() -> None:
    for temperature in (0.0, 1e-300, 1e-3):
        assert chosen(LOGITS, 20, temperature=temperature) == {0}


def test_a_high_temperature_makes_all_tokens_alike() -> None:
    random = torch.Generator().manual_seed(0)
    draws = torch.tensor([choose(LOGITS, Sampling(temperature=1e6), random) for _ in range(4000)])
    assert (draws.bincount(minlength=4) / 4000 - 0.25).abs().max() < 0.025


@pytest.mark.parametrize(("top_k", "expected"), [(1, {0}), (2, {0, 2}), (3, {0, 2, 3}), (4, {0, 1, 2, 3})])
def test_top_k_chooses_among_the_k_likeliest(top_k: int, expected: set[int]) -> None:
    assert chosen(LOGITS, top_k=top_k) == expected


def test_top_k_above_the_vocabulary_restricts_nothing() -> None:
    assert chosen(LOGITS, top_k=1000) == {0, 1, 2, 3}


def test_top_k_takes_k_tokens_also_among_equals() -> None:
    assert len(chosen(torch.zeros(6), top_k=2)) == 2


@pytest.mark.parametrize(
    ("top_p", "expected"),
    [(0.0, {0}), (0.4, {0}), (0.51, {0, 2}), (0.76, {0, 2, 3}), (0.91, {0, 1, 2, 3}), (1.0, {0, 1, 2, 3})],
)
def test_top_p_chooses_among_the_likeliest_of_that_share(top_p: float, expected: set[int]) -> None:
    assert chosen(LOGITS, top_p=top_p) == expected


def test_top_p_counts_what_top_k_has_left() -> None:
    assert chosen(LOGITS, top_k=2, top_p=0.6) == {0}  # 0.5 of 0.75 is two thirds


def test_scores_that_are_not_finite_are_a_failure_of_the_model() -> None:
    for bad in (torch.nan, torch.inf):
        for temperature in (0.0, 1.0):
            with pytest.raises(NumericsError, match="diverged"):
                chosen(torch.tensor([0.0, bad]), temperature=temperature)
