"""How the next token is chosen: settings, and the choice itself for all rows of a batch.

Tokens are drawn by inverting the cumulative distribution in float64, with one number of a row's own, so that the other
rows have no say. The order of the rules is that of transformers: repetition penalty, temperature, top-k, top-p, min-p.
No torch here. Shapes: B rows, V vocabulary.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lmexp.errors import ConfigError, NumericsError, Problem


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """How a text goes on, and where it ends."""

    max_tokens: int = 200
    temperature: float = 0.8
    """0 takes the likeliest token."""
    top_k: int | None = None
    """Choose among the k likeliest only."""
    top_p: float | None = None
    """Choose among the likeliest that together have this probability."""
    min_p: float | None = None
    """Choose among those at least this share as likely as the likeliest."""
    repetition_penalty: float = 1.0
    """Above 1: tokens that the text has already are less likely."""
    stop: tuple[str, ...] = ()
    """The text ends before the first of these."""
    num_beams: int = 1
    """More than 1: beam search, with a temperature of 0."""
    length_penalty: float = 1.0
    """Texts of beams are compared by their log-probability / length ** length_penalty; larger for longer ones."""
    seed: int = 0

    def __post_init__(self) -> None:
        problems = list(self._problems())
        if problems:
            raise ConfigError(problems)

    def require_samples(self, number: int) -> None:
        """Raise unless so many different texts can follow a prompt.

        Raises:
            ConfigError: they would be alike, or there are fewer beams.
        """
        if self.num_beams > 1 and number > self.num_beams:
            raise ConfigError([Problem("num_samples", f"{self.num_beams} beams give at most as many texts")])
        if self.num_beams == 1 and self.temperature == 0 and number > 1:
            problem = "at temperature 0 all texts are alike; give a temperature, or num_beams"
            raise ConfigError([Problem("num_samples", problem)])

    def _problems(self) -> Iterator[Problem]:
        lowest = {"max_tokens": 1, "temperature": 0, "top_k": 1, "num_beams": 1, "seed": 0}
        for key, low in lowest.items():
            value = getattr(self, key)
            if value is not None and not value >= low:
                yield Problem(key, f"must be at least {low}, not {value}")
        for key in ("top_p", "min_p"):
            value = getattr(self, key)
            if value is not None and not 0 <= value <= 1:
                yield Problem(key, f"must be at least 0 and at most 1, not {value}")
        if not self.repetition_penalty > 0:
            yield Problem("repetition_penalty", f"must be above 0, not {self.repetition_penalty}")
        if "" in self.stop:
            yield Problem("stop", "is empty; give the text to stop at, or leave it out")
        if self.num_beams > 1:
            limits = [key for key in ("top_k", "top_p", "min_p") if getattr(self, key) is not None]
            if self.temperature:
                limits.insert(0, "temperature")
            if limits:
                yield Problem("num_beams", f"beam search draws nothing at random: leave out {' and '.join(limits)}")
        elif self.length_penalty != 1:
            yield Problem("length_penalty", "is for beam search: give num_beams too")


def penalise(scores_BV: NDArray[np.floating], seen_BV: NDArray[np.bool_], penalty: float) -> NDArray[np.floating]:
    """Return the scores, lower where a token was seen.

    Source: Keskar et al. 2019, section 4.1; for negative scores as transformers has it.
    """
    return np.where(seen_BV, np.where(scores_BV < 0, scores_BV * penalty, scores_BV / penalty), scores_BV)


def choose(scores_BV: NDArray[np.floating], sampling: Sampling, shares_B: list[float]) -> NDArray[np.intp]:
    """Return a token for each row: the first at which the cumulative probability reaches the row's share in (0, 1].

    Raises:
        NumericsError: a score is not finite.
    """
    best_B1 = scores_BV.max(axis=1, keepdims=True)
    require_finite(best_B1)
    if sampling.temperature == 0:
        return scores_BV.argmax(axis=1)
    with np.errstate(over="ignore"):  # at a tiny temperature; the weight is then 0
        weights_BV = np.exp((scores_BV - best_B1.astype(np.float64)) / sampling.temperature)  # the likeliest has 1
    if sampling.top_k is not None and sampling.top_k < weights_BV.shape[1]:
        num_others = weights_BV.shape[1] - sampling.top_k
        others = weights_BV.argpartition(num_others, axis=1)[:, :num_others]
        np.put_along_axis(weights_BV, others, 0.0, axis=1)
    if sampling.top_p is not None:
        _keep_top_p(weights_BV, sampling.top_p)
    if sampling.min_p is not None:
        weights_BV[weights_BV < sampling.min_p] = 0.0
    reached_BV = weights_BV.cumsum(axis=1)
    targets_B1 = reached_BV[:, -1:] * np.array(shares_B)[:, None]
    return (reached_BV >= targets_B1).argmax(axis=1)


def _keep_top_p(weights_BV: NDArray[np.floating], top_p: float) -> None:
    """Set all weights to 0 but the largest that together have this share; the largest stays in any case."""
    order_BV = np.argsort(-weights_BV, axis=1, kind="stable")
    reached_BV = np.take_along_axis(weights_BV, order_BV, axis=1).cumsum(axis=1)
    beyond = np.zeros_like(weights_BV, dtype=bool)
    beyond[:, 1:] = reached_BV[:, :-1] >= top_p * reached_BV[:, -1:]
    np.put_along_axis(weights_BV, order_BV, np.where(beyond, 0.0, np.take_along_axis(weights_BV, order_BV, 1)), axis=1)


def require_finite(best_B: NDArray[np.floating]) -> None:
    """Raise unless the best score of each row is a finite number.

    Raises:
        NumericsError: it is not.
    """
    if not np.isfinite(best_B).all():
        raise NumericsError(
            "the model's scores are not finite numbers: its training has diverged; take an earlier checkpoint"
        )
