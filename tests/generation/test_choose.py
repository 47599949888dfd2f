"""The choice of one token."""

import warnings
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from lmexp.errors import ConfigError, NumericsError
from lmexp.generation.sampling import Sampling, choose, penalise

SCORES = np.log([0.5, 0.1, 0.25, 0.15])


def draw(scores: NDArray[np.floating], draws: int, **sampling: Any) -> NDArray[np.intp]:
    """Return tokens drawn with evenly spaced numbers, as many rows at once."""
    shares = (np.arange(draws) + 1) / draws
    return choose(np.tile(scores, (draws, 1)), Sampling(**({"temperature": 1.0} | sampling)), shares.tolist())


def chosen(scores: NDArray[np.floating], draws: int = 1000, **sampling: Any) -> set[int]:
    return set(draw(scores, draws, **sampling).tolist())


def test_without_limits_every_token_can_come() -> None:
    assert chosen(SCORES) == {0, 1, 2, 3}


def test_tokens_come_as_often_as_they_are_likely() -> None:
    shares = np.bincount(draw(SCORES, 10_000, temperature=0.5), minlength=4) / 10_000
    squares = np.array([0.5, 0.1, 0.25, 0.15]) ** 2  # a temperature of 1/2 squares the odds
    assert np.abs(shares - squares / squares.sum()).max() < 2e-4


def test_the_numbers_of_a_row_choose_its_token_alone() -> None:
    scores = np.random.default_rng(0).normal(size=(5, 30))
    shares = [0.1, 0.9, 0.5, 1.0, 1e-300]
    together = choose(scores, Sampling(top_k=20, top_p=0.9), shares)
    alone = [choose(scores[i : i + 1], Sampling(top_k=20, top_p=0.9), shares[i : i + 1])[0] for i in range(5)]
    assert together.tolist() == alone


def test_a_token_of_no_probability_never_comes() -> None:
    scores = np.array([[-np.inf, 0.0, -np.inf, 0.0, -np.inf]])
    for share in (1e-300, 0.5, 0.5 + 1e-12, 1.0):
        assert choose(scores, Sampling(temperature=1.0), [share])[0] in (1, 3)


def test_temperature_0_takes_the_likeliest_and_so_does_a_tiny_one() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for temperature in (0.0, 1e-300, 1e-3):
            assert chosen(SCORES, 20, temperature=temperature) == {0}


def test_a_high_temperature_makes_all_tokens_alike() -> None:
    shares = np.bincount(draw(SCORES, 10_000, temperature=1e6), minlength=4) / 10_000
    assert np.abs(shares - 0.25).max() < 1e-3


@pytest.mark.parametrize(("top_k", "expected"), [(1, {0}), (2, {0, 2}), (3, {0, 2, 3}), (4, {0, 1, 2, 3})])
def test_top_k_chooses_among_the_k_likeliest(top_k: int, expected: set[int]) -> None:
    assert chosen(SCORES, top_k=top_k) == expected


def test_top_k_above_the_vocabulary_restricts_nothing() -> None:
    assert chosen(SCORES, top_k=1000) == {0, 1, 2, 3}


def test_top_k_takes_k_tokens_also_among_equals() -> None:
    assert len(chosen(np.zeros(6), top_k=2)) == 2


@pytest.mark.parametrize(
    ("top_p", "expected"),
    [(0.0, {0}), (0.4, {0}), (0.51, {0, 2}), (0.76, {0, 2, 3}), (0.91, {0, 1, 2, 3}), (1.0, {0, 1, 2, 3})],
)
def test_top_p_chooses_among_the_likeliest_of_that_share(top_p: float, expected: set[int]) -> None:
    assert chosen(SCORES, top_p=top_p) == expected


def test_top_p_counts_what_top_k_has_left() -> None:
    assert chosen(SCORES, top_k=2, top_p=0.6) == {0}  # 0.5 of 0.75 is two thirds


@pytest.mark.parametrize(
    ("min_p", "expected"), [(0.0, {0, 1, 2, 3}), (0.25, {0, 2, 3}), (0.45, {0, 2}), (0.6, {0}), (1.0, {0})]
)
def test_min_p_chooses_among_those_that_share_as_likely_as_the_likeliest(min_p: float, expected: set[int]) -> None:
    assert chosen(SCORES, min_p=min_p) == expected


def test_a_penalty_makes_seen_tokens_less_likely_whatever_the_sign_of_their_score() -> None:
    scores = np.array([[2.0, -2.0, 2.0, -2.0]])
    seen = np.array([[True, True, False, False]])
    assert penalise(scores, seen, 2.0).tolist() == [[1.0, -4.0, 2.0, -2.0]]


SETTINGS: list[dict[str, Any]] = [
    {"temperature": 0.7},
    {"temperature": 1.3, "top_k": 5},
    {"temperature": 0.9, "top_p": 0.8},
    {"temperature": 1.0, "min_p": 0.1},
    {"temperature": 0.8, "top_k": 12, "top_p": 0.9, "min_p": 0.05, "repetition_penalty": 1.4},
    {"temperature": 1.5, "top_k": 3, "top_p": 0.5, "repetition_penalty": 0.7},
]


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_probabilities_equal_those_of_transformers(settings: dict[str, Any]) -> None:
    transformers = pytest.importorskip("transformers")
    scores = torch.randn(4, 30, generator=torch.Generator().manual_seed(0)) * 2
    ids = torch.randint(30, (4, 9), generator=torch.Generator().manual_seed(1))
    names = {
        "repetition_penalty": transformers.RepetitionPenaltyLogitsProcessor,
        "temperature": transformers.TemperatureLogitsWarper,
        "top_k": transformers.TopKLogitsWarper,
        "top_p": transformers.TopPLogitsWarper,
        "min_p": transformers.MinPLogitsWarper,
    }
    rules = transformers.LogitsProcessorList(rule(settings[key]) for key, rule in names.items() if key in settings)
    expected = rules(ids, scores.double()).softmax(-1).numpy()
    seen = np.zeros((4, 30), dtype=bool)
    np.put_along_axis(seen, ids.numpy(), True, axis=1)
    penalised = penalise(scores.double().numpy(), seen, settings.get("repetition_penalty", 1.0))
    for row in range(4):
        tokens = draw(penalised[row], 20_000, **settings)
        shares = np.bincount(tokens, minlength=30) / 20_000
        assert np.abs(shares - expected[row]).max() < 1.1 / 20_000  # each share is exact up to the spacing of the draws
        assert ((shares > 0) <= (expected[row] > 0)).all()


def test_scores_that_are_not_finite_are_a_failure_of_the_model() -> None:
    for bad in (np.nan, np.inf):
        for temperature in (0.0, 1.0):
            with pytest.raises(NumericsError, match="diverged"):
                chosen(np.array([0.0, bad]), temperature=temperature)


# -- settings --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"top_k": 0}, "top_k: must be at least 1, not 0"),
        ({"temperature": -0.1}, "temperature: must be at least 0, not -0.1"),
        ({"temperature": float("nan")}, "temperature: must be at least 0, not nan"),
        ({"top_p": 1.5}, "top_p: must be at least 0 and at most 1, not 1.5"),
        ({"min_p": -1.0}, "min_p: must be at least 0 and at most 1, not -1.0"),
        ({"repetition_penalty": 0.0}, "repetition_penalty: must be above 0, not 0.0"),
        ({"stop": ("a", "")}, "stop: is empty; give the text to stop at, or leave it out"),
        ({"num_beams": 3}, "num_beams: beam search draws nothing at random: leave out temperature"),
        (
            {"num_beams": 3, "temperature": 0, "top_k": 5, "min_p": 0.1},
            "num_beams: beam search draws nothing at random: leave out top_k and min_p",
        ),
        ({"length_penalty": 2.0}, "length_penalty: is for beam search: give num_beams too"),
        ({"max_tokens": 0, "top_k": 0}, "max_tokens: must be at least 1, not 0\ntop_k: must be at least 1, not 0"),
    ],
)
def test_settings_out_of_range_or_at_odds_are_all_named(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Sampling(**settings)
    assert str(caught.value) == message


def test_samples_that_would_be_alike_are_refused() -> None:
    Sampling().require_samples(5)
    Sampling(num_beams=3, temperature=0).require_samples(3)
    with pytest.raises(ConfigError, match="at temperature 0 all texts are alike"):
        Sampling(temperature=0).require_samples(2)
    with pytest.raises(ConfigError, match="3 beams give at most as many texts"):
        Sampling(num_beams=3, temperature=0).require_samples(4)
