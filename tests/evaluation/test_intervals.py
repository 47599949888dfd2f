"""The bootstrap gives the interval that theory gives, and ratios are those of sums."""

import numpy as np
import pytest

from lmexp.evaluation.intervals import interval, ratio, then


def test_the_interval_of_a_mean_is_that_of_the_normal_curve():
    hits = (np.random.default_rng(0).random(2000) < 0.8).astype(float)
    low, high = interval(ratio(hits, np.ones(2000)), 2000) or (0, 0)
    half = 1.96 * np.sqrt(hits.mean() * (1 - hits.mean()) / 2000)
    assert low == pytest.approx(hits.mean() - half, abs=0.002)
    assert high == pytest.approx(hits.mean() + half, abs=0.002)


def test_a_loss_a_token_weighs_examples_by_their_tokens():
    nll, tokens = np.array([10.0, 2.0]), np.array([10.0, 1.0])
    assert ratio(nll, tokens)(np.ones(2)) == 12 / 11
    assert then(ratio(nll, tokens), lambda x: -x)(np.array([0.0, 3.0])) == -2
    assert ratio(nll, tokens)(np.zeros(2)) == 0


def test_one_example_has_no_interval():
    assert interval(ratio(np.ones(1), np.ones(1)), 1) is None
