"""Statistics over seeds: is one group of runs better than another, by how much, and how sure is that?

Two tests must agree: Welch's t, which gives the interval, and the exact permutation test, which assumes no shape of the
distribution. `docs/statistics.md` explains both in plain words. Values are NumPy arrays, one number a seed; nothing
here knows runs or metrics.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from scipy.special import nctdtr, stdtr, stdtrit

ALPHA = 0.05
"""Level of all statements; intervals are at 1 - ALPHA."""
SMALLEST_SAMPLE = 4
"""Seeds a side from which a statement is made: 3 and 3 can never reach p < 0.1 by permutation."""
SMALLEST_PAIRS = 6
"""Pairs from which a paired statement is made: 5 pairs can never reach p < 0.0625 by flipping signs."""
MOST_ARRANGEMENTS = 200_000
"""Up to here every arrangement is counted; above, some are drawn, always the same ones."""
MANY_VALUES = 2_000
"""From here on the sums of all arrangements lie on a normal curve, whose variance is known (Hoeffding 1951)."""
POWER = 0.8
MOST_SEEDS = 200


@dataclass(frozen=True)
class Spread:
    """Number, mean, standard deviation and t interval of a sample; what n does not allow is None."""

    n: int
    mean: float
    sd: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Shift:
    """The difference of two means, its interval, and the p-values of both tests."""

    value: float
    low: float
    high: float
    p_t: float
    p_arrangements: float

    @property
    def p(self) -> float:
        """The p-value of the statement, which needs both tests: the larger one."""
        return max(self.p_t, self.p_arrangements)


def spread(values: Sequence[float], *, alpha: float = ALPHA) -> Spread:
    """Return n, mean, standard deviation (n - 1) and the t interval of the mean."""
    x = np.asarray(values, dtype=float)
    mean = float(x.mean())
    if len(x) < 2:
        return Spread(len(x), mean, None, None, None)
    sd = float(x.std(ddof=1))
    half = float(stdtrit(len(x) - 1, 1 - alpha / 2)) * sd / math.sqrt(len(x))
    return Spread(len(x), mean, sd, mean - half, mean + half)


def welch(a: Sequence[float], b: Sequence[float], *, alpha: float = ALPHA) -> Shift:
    """Return mean(a) - mean(b) for two independent samples of at least two values each.

    Source: Welch 1947 for the interval and p_t; Pitman 1937 for p_arrangements.
    """
    x, y = np.asarray(a, dtype=float), np.asarray(b, dtype=float)
    error, freedom = _welch_error(x.std(ddof=1), y.std(ddof=1), len(x), len(y))
    value = float(x.mean() - y.mean())
    return _shift(value, error, freedom, alpha, permutation_p(x, y))


def paired(a: Sequence[float], b: Sequence[float], *, alpha: float = ALPHA) -> Shift:
    """Return mean(a - b) for at least two pairs, by the paired t interval and the exact sign-flip test."""
    differences = np.asarray(a, dtype=float) - np.asarray(b, dtype=float)
    n = len(differences)
    error = float(differences.std(ddof=1)) / math.sqrt(n)
    return _shift(float(differences.mean()), error, n - 1, alpha, sign_flip_p(differences))


def permutation_p(a: Sequence[float] | np.ndarray, b: Sequence[float] | np.ndarray) -> float:
    """Return the share of all ways to deal the values into two groups whose means differ at least as much."""
    pooled = np.concatenate((np.asarray(a, dtype=float), np.asarray(b, dtype=float)))
    pooled = pooled - pooled.mean()
    n, smaller = len(pooled), min(len(a), len(b))
    observed = abs(pooled[: len(a)].sum())
    if math.comb(n, smaller) <= MOST_ARRANGEMENTS:
        chosen = np.fromiter(combinations(range(n), smaller), dtype=np.dtype((np.int32, smaller)))
        return _share_at_least(np.abs(pooled[chosen].sum(1)), observed, is_complete=True)
    if n > MANY_VALUES:
        variance = smaller * (n - smaller) / (n * (n - 1)) * float((pooled**2).sum())
        return math.erfc(observed / math.sqrt(2 * variance)) if variance else 1.0
    generator = np.random.default_rng(0)
    drawn = [pooled[generator.permutation(n)[:smaller]].sum() for _ in range(_draws(n))]
    return _share_at_least(np.abs(np.array(drawn)), observed, is_complete=False)


def sign_flip_p(differences: Sequence[float] | np.ndarray) -> float:
    """Return the share of all ways to flip the signs of differences whose sum is at least as far from zero."""
    x = np.asarray(differences, dtype=float)
    observed = abs(x.sum())
    if 2 ** len(x) <= MOST_ARRANGEMENTS:
        signs = 1 - 2 * ((np.arange(2 ** len(x))[:, None] >> np.arange(len(x))) & 1)
        return _share_at_least(np.abs(signs @ x), observed, is_complete=True)
    generator = np.random.default_rng(0)
    drawn = [abs(generator.choice((-1.0, 1.0), len(x)) @ x) for _ in range(_draws(len(x)))]
    return _share_at_least(np.array(drawn), observed, is_complete=False)


def bootstrap_interval(differences: Sequence[float] | np.ndarray, *, alpha: float = ALPHA) -> tuple[float, float]:
    """Return the percentile interval of a mean over examples; for hundreds of examples, not for a handful of seeds.

    Source: Efron 1979.
    """
    x = np.asarray(differences, dtype=float)
    generator = np.random.default_rng(0)
    means = [x[generator.integers(0, len(x), len(x))].mean() for _ in range(2_000)]
    low, high = np.quantile(means, (alpha / 2, 1 - alpha / 2))
    return float(low), float(high)


def holm(p_values: Sequence[float]) -> list[float]:
    """Return p-values that hold for all comparisons together.

    Source: Holm 1979.

    Example:
        >>> holm([0.01, 0.04, 0.03])
        [0.03, 0.06, 0.06]
    """
    adjusted, largest = [0.0] * len(p_values), 0.0
    for rank, number in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[number]))
        adjusted[number] = largest
    return adjusted


def more_seeds(a: Sequence[float], b: Sequence[float], *, comparisons: int = 1, alpha: float = ALPHA) -> int | None:
    """Return how many more seeds a side would show a difference as large as the one seen, 8 times in 10.

    None stands for more than `MOST_SEEDS`: the difference is small beside the spread. With several comparisons the
    level is that of Holm's first step.
    """
    x, y = np.asarray(a, dtype=float), np.asarray(b, dtype=float)
    level, effect = alpha / comparisons, abs(float(x.mean() - y.mean()))
    smaller = min(len(x), len(y))
    for n in range(max(smaller + 1, SMALLEST_SAMPLE), MOST_SEEDS + 1):
        error, freedom = _welch_error(x.std(ddof=1), y.std(ddof=1), n, n)
        if 2 / math.comb(2 * n, n) >= level or effect == 0:
            continue
        if error == 0 or 1 - nctdtr(freedom, effect / error, stdtrit(freedom, 1 - level / 2)) >= POWER:
            return n - smaller
    return None


def _shift(value: float, error: float, freedom: float, alpha: float, p_arrangements: float) -> Shift:
    if error == 0:
        return Shift(value, value, value, float(value == 0), p_arrangements)
    half = float(stdtrit(freedom, 1 - alpha / 2)) * error
    p_t = 2 * float(stdtr(freedom, -abs(value) / error))
    return Shift(value, value - half, value + half, p_t, p_arrangements)


def _welch_error(sd_a: float, sd_b: float, n_a: int, n_b: int) -> tuple[float, float]:
    """Return the standard error of a difference of means and its degrees of freedom."""
    a, b = float(sd_a) ** 2 / n_a, float(sd_b) ** 2 / n_b
    if a + b == 0:
        return 0.0, 1.0
    return math.sqrt(a + b), (a + b) ** 2 / (a**2 / (n_a - 1) + b**2 / (n_b - 1))


def _draws(n: int) -> int:
    """Return how many arrangements of n values are drawn: enough to tell 0.05, and no more work than a blink."""
    return max(999, min(19_999, 4_000_000 // n))


def _share_at_least(statistics: np.ndarray, observed: float, *, is_complete: bool) -> float:
    """Return the share of statistics as large as the observed one, which counts itself where not all were counted."""
    as_large = int((statistics >= observed - 1e-9 * max(observed, float(statistics.max()))).sum())
    return as_large / len(statistics) if is_complete else (as_large + 1) / (len(statistics) + 1)
