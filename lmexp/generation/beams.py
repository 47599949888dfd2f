"""Beam search, with the rules of transformers, so that both find the same texts.

Of the 2K likeliest continuations of K beams, those that end are kept as results if they are among the first K, and the
first K that do not end go on. A search is over when the best beam, compared at its present length, is no better than
the worst of K results (early_stopping=False there). Shapes: P prompts, K beams, V vocabulary.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lmexp.generation.rows import Rows
from lmexp.generation.sampling import Sampling, require_finite

Ends = Callable[[int, list[int]], str | None]
"""Why a text ends, given its number and its tokens; None if it goes on."""


@dataclass(frozen=True)
class Result:
    """A text that has ended; `tokens` are the new ones, the last one included that ended it."""

    tokens: list[int]
    finish_reason: str
    score: float
    """Sum of the log-probabilities / length ** length_penalty. Unit: nats."""


class Search:
    """The results of one prompt so far."""

    def __init__(self, number: int, prompt_length: int, sampling: Sampling) -> None:
        self.number, self.prompt_length, self.sampling = number, prompt_length, sampling
        self.results: list[Result] = []

    def add(self, tokens: list[int], reason: str, total: float) -> None:
        """Keep a text that has ended if it is among the best."""
        score = total / len(tokens) ** self.sampling.length_penalty
        self.results.append(Result(tokens, reason, score))
        self.results.sort(key=lambda result: -result.score)
        del self.results[self.sampling.num_beams :]

    def is_over(self, best_total: float, length: int) -> bool:
        """Return whether no beam can better the results any more, were it to end here."""
        is_full = len(self.results) == self.sampling.num_beams
        return is_full and best_total / length**self.sampling.length_penalty <= self.results[-1].score


def search(rows: Rows, sampling: Sampling, ends: Ends) -> list[list[Result]]:
    """Return the best texts for each row, the best first."""
    beams = sampling.num_beams
    searches = [Search(number, len(ids), sampling) for number, ids in enumerate(rows.ids)]
    going = searches
    scores_BV = np.repeat(rows.scores(), beams, axis=0)
    rows.select([row for row in range(len(searches)) for _ in range(beams)])
    totals_PK = np.full((len(searches), beams), -1e9)
    totals_PK[:, 0] = 0.0  # all beams are alike at first, so only one of them counts
    for length in range(1, rows.max_tokens + 1):
        log_probabilities_BV = rows.penalised(log_softmax(scores_BV), sampling.repetition_penalty)
        kept, totals, sources, tokens = [], [], [], []
        candidates = _likeliest(log_probabilities_BV, totals_PK)
        for position, (one, (its_totals, its_beams, its_tokens)) in enumerate(zip(going, candidates, strict=True)):
            its_sources = position * beams + its_beams
            is_ended = _collect(one, rows, ends, its_totals, its_sources, its_tokens, length == rows.max_tokens)
            on = np.argsort(is_ended, kind="stable")[:beams]  # those that go on, in their order
            its_totals = np.where(is_ended, -1e9, its_totals)[on]
            if not one.is_over(its_totals[0], length):
                kept.append(one)
                totals.append(its_totals)
                sources.extend(its_sources[on].tolist())
                tokens.extend(its_tokens[on].tolist())
        if not kept or length == rows.max_tokens:
            break
        going, totals_PK = kept, np.array(totals)
        rows.select(sources)
        rows.append(np.array(tokens))
        scores_BV = rows.scores()
    return [one.results for one in searches]


def _collect(
    one: Search,
    rows: Rows,
    ends: Ends,
    totals: NDArray[np.floating],
    sources: NDArray[np.intp],
    tokens: NDArray[np.intp],
    is_last: bool,
) -> NDArray[np.bool_]:
    """Keep the candidates that end and are among the first K; return which of all end."""
    is_ended = np.zeros(len(tokens), dtype=bool)
    for rank, (total, source, token) in enumerate(zip(totals.tolist(), sources.tolist(), tokens.tolist(), strict=True)):
        text = [*rows.ids[source][one.prompt_length :], token]
        reason = ends(one.number, text) or ("length" if is_last else None)
        is_ended[rank] = reason is not None
        if reason is not None and rank < one.sampling.num_beams:
            one.add(text, reason, total)
    return is_ended


def _likeliest(
    log_probabilities_BV: NDArray[np.floating], totals_PK: NDArray[np.floating]
) -> Iterator[tuple[NDArray[np.floating], NDArray[np.intp], NDArray[np.intp]]]:
    """Yield each prompt's 2K likeliest continuations, the likeliest first: their totals, beams and tokens."""
    prompts, beams = totals_PK.shape
    vocab_size = log_probabilities_BV.shape[1]
    totals = (log_probabilities_BV + totals_PK.reshape(-1, 1)).reshape(prompts, beams * vocab_size)
    number = min(2 * beams, beams * vocab_size)
    best = totals.argpartition(-number, axis=1)[:, -number:]
    for row, ids in zip(totals, best, strict=True):
        ids = ids[np.argsort(-row[ids], kind="stable")]
        yield row[ids], ids // vocab_size, ids % vocab_size


def log_softmax(scores_BV: NDArray[np.floating]) -> NDArray[np.floating]:
    """Return log-probabilities in float64."""
    best_B1 = scores_BV.max(axis=1, keepdims=True)
    require_finite(best_B1)
    shifted_BV = scores_BV - best_B1.astype(np.float64)
    return shifted_BV - np.log(np.exp(shifted_BV).sum(axis=1, keepdims=True))
