"""The statistics equal SciPy's and hand computations, and are right as often as they say."""

import math

import numpy as np
import pytest
from scipy import stats

from lmexp.runs import statistics
from lmexp.runs.statistics import (
    bootstrap_interval,
    holm,
    more_seeds,
    paired,
    permutation_p,
    sign_flip_p,
    spread,
    welch,
)

GENERATOR = np.random.default_rng(0)
SAMPLES = [
    (GENERATOR.normal(2.0, 0.01, n).tolist(), GENERATOR.normal(2.0 + shift, spread, m).tolist())
    for n, m, shift, spread in [(5, 5, 0.0, 0.01), (4, 7, 0.02, 0.05), (10, 10, 0.01, 0.01), (2, 3, 0.1, 0.1)]
]


@pytest.mark.parametrize(("a", "b"), SAMPLES)
def test_welch_equals_scipy(a: list[float], b: list[float]) -> None:
    shift, reference = welch(a, b), stats.ttest_ind(a, b, equal_var=False)
    interval = reference.confidence_interval(0.95)
    assert shift.p_t == pytest.approx(reference.pvalue, rel=1e-9)
    assert (shift.low, shift.high) == pytest.approx((interval.low, interval.high), rel=1e-9)
    assert shift.p == max(shift.p_t, shift.p_arrangements)


@pytest.mark.parametrize(("a", "b"), [(a, b) for a, b in SAMPLES if len(a) == len(b)])
def test_the_permutation_test_equals_scipys(a: list[float], b: list[float]) -> None:
    def difference(x: np.ndarray, y: np.ndarray, axis: int) -> np.ndarray:
        return np.mean(x, axis=axis) - np.mean(y, axis=axis)

    reference = stats.permutation_test((a, b), difference, vectorized=True, n_resamples=np.inf)
    assert permutation_p(a, b) == pytest.approx(reference.pvalue, rel=1e-9)


def test_permutation_by_hand() -> None:
    assert permutation_p([1, 2], [3, 4]) == pytest.approx(2 / 6)
    assert permutation_p([1, 2, 3, 4], [5, 6, 7, 8]) == pytest.approx(2 / 70)
    assert permutation_p([1, 1], [1, 1]) == 1


def test_drawn_permutations_are_near_the_exact_p(monkeypatch: pytest.MonkeyPatch) -> None:
    a, b = SAMPLES[2]
    exact = permutation_p(a, b)
    monkeypatch.setattr(statistics, "MOST_ARRANGEMENTS", 10)
    assert permutation_p(a, b) == pytest.approx(exact, abs=4 * math.sqrt(exact / 19_999))
    assert permutation_p(a, b) == permutation_p(a, b)


def test_the_normal_curve_of_many_values_is_near_the_drawn_p(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = np.random.default_rng(3)
    a, b = generator.exponential(size=300), generator.exponential(size=500) + 0.12
    drawn = permutation_p(a, b)
    monkeypatch.setattr(statistics, "MANY_VALUES", 100)
    assert 0.02 < drawn < 0.5
    assert permutation_p(a, b) == pytest.approx(drawn, abs=0.02)
    assert permutation_p([1.0] * 200, [1.0] * 200) == 1


def test_paired_equals_scipy_and_five_pairs_cannot_reach_the_level() -> None:
    a, b = SAMPLES[2]
    shift, reference = paired(a, b), stats.ttest_rel(a, b)
    interval = reference.confidence_interval(0.95)
    assert shift.p_t == pytest.approx(reference.pvalue, rel=1e-9)
    assert (shift.low, shift.high) == pytest.approx((interval.low, interval.high), rel=1e-9)
    assert sign_flip_p([1, 1, 1, 1, 1]) == pytest.approx(2 / 32)
    assert sign_flip_p([1, 1, 1, 1, 1, 1]) == pytest.approx(2 / 64)
    assert sign_flip_p([3, -1, 2]) == pytest.approx(4 / 8)


def test_the_bootstrap_interval_is_near_scipys() -> None:
    scores = np.random.default_rng(1).exponential(size=400)
    reference = stats.bootstrap((scores,), np.mean, method="percentile", rng=np.random.default_rng(2))
    expected = reference.confidence_interval.low, reference.confidence_interval.high
    assert bootstrap_interval(scores) == pytest.approx(expected, abs=0.02)


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.02, 0.03, 0.005]) == pytest.approx([0.03, 0.04, 0.04, 0.02])
    assert holm([0.6, 0.9]) == [1.0, 1.0]
    assert holm([]) == []


def test_spread_of_one_says_nothing_of_its_spread() -> None:
    one, two = spread([2.0]), spread([1.0, 3.0])
    assert (one.n, one.mean, one.sd, one.low) == (1, 2.0, None, None)
    assert (two.sd, two.high) == pytest.approx((math.sqrt(2), 2 + stats.t.ppf(0.975, 1)))


def test_seeds_that_are_missing_are_as_many_as_the_power_of_the_t_test_says() -> None:
    a, b = [0.0, 1.0, 2.0, 3.0], [1.2, 2.2, 3.2, 4.2]
    more = more_seeds(a, b)
    assert more is not None
    sd, n = np.std(a, ddof=1), 4 + more

    def power(n: int) -> float:
        return float(stats.nct.sf(stats.t.ppf(0.975, 2 * n - 2), 2 * n - 2, 1.2 / (sd * math.sqrt(2 / n))))

    assert power(n - 1) < 0.8 <= power(n)
    assert more_seeds(a, a) is None
    more_of_ten = more_seeds(a, b, comparisons=10)
    assert more_of_ten is not None
    assert more_of_ten > more


def test_values_without_spread_differ_or_do_not() -> None:
    assert (welch([1, 1], [1, 1]).p_t, welch([2, 2], [1, 1]).p_t) == (1.0, 0.0)
    assert welch([2, 2], [1, 1]).low == 1


@pytest.mark.parametrize("n", [5, 10])
def test_the_interval_holds_the_mean_in_95_of_100_groups(n: int) -> None:
    samples = np.random.default_rng(n).normal(size=(1000, n))
    held = sum(found.low <= 0 <= found.high for found in map(spread, samples.tolist()))  # type: ignore[operator]
    assert 0.93 <= held / 1000 <= 0.97
