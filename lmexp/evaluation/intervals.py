"""How sure a number over examples is: the examples are drawn again, with replacement, and the number is taken anew.

Source: Efron 1979; percentile intervals.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Metric = Callable[[NDArray[np.float64]], float]
"""A number from how often each example counts."""

RESAMPLES = 1000
LEVEL = 0.95


def interval(metric: Metric, count: int) -> tuple[float, float] | None:
    """Return the interval in which a number over so many examples lies; None where there is one example."""
    if count < 2:
        return None
    draw = np.random.default_rng(0)
    found = [metric(draw.multinomial(count, np.full(count, 1 / count)).astype(np.float64)) for _ in range(RESAMPLES)]
    low, high = np.quantile(found, ((1 - LEVEL) / 2, (1 + LEVEL) / 2))
    return float(low), float(high)


def ratio(above: NDArray[np.float64], below: NDArray[np.float64]) -> Metric:
    """Return the sum of one column over that of another: a loss a token, an accuracy."""

    def metric(weights: NDArray[np.float64]) -> float:
        total = float(weights @ below)
        return float(weights @ above) / total if total else 0.0

    return metric


def then(metric: Metric, function: Callable[[float], float]) -> Metric:
    """Return a function of a metric."""
    return lambda weights: function(metric(weights))
